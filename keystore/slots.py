"""Slots: the store key, wrapped once for everything that may open the store.

A new kind of opener is a new lock class and a branch in _read_slot. There is no
public-key kind: whoever knows a public key could forge a store that opens.
docs/spec/keystore-v1.md, section 3.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from keystore import identity, passphrase, token
from keystore.canonical import NAME, Fields, encode, now
from keystore.errors import (
    InvalidName,
    MalformedKeystore,
    NoSlotOpens,
    SlotError,
    TamperedKeystore,
    WorkFactorTooHigh,
)
from keystore.identity import IdentityLock
from keystore.passphrase import PassphraseLock
from keystore.sealing import KEY_BYTES, OVERHEAD_BYTES, Altered, NotThisKey, seal
from keystore.sealing import unseal as open_sealed
from keystore.token import TokenLock

MAX_SLOTS = 16
MAX_TOTAL_KIB = 16 * passphrase.MAX_MEMORY_KIB  # about 20 s on two cores
ID_BYTES = 4
WRAPPED_BYTES = KEY_BYTES + OVERHEAD_BYTES
COMMON_FIELDS = ("created", "id", "kind", "label", "wrapped")

Lock = PassphraseLock | IdentityLock | TokenLock


class Opener(Protocol):
    """Something that opens a slot: a Passphrase, an Identity or a Token."""

    @property
    def kind(self) -> str:
        """The kind of slot it opens."""

    def new_lock(self) -> Lock:
        """The public part of a new slot for it."""

    def wrapping_key(self, lock: object) -> bytes | None:
        """The key for a slot, or None if it cannot be this opener's."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One wrapped copy of the store key."""

    id: str
    label: str
    created: str
    lock: Lock
    wrapped: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """What opens it: passphrase, identity or pkcs11."""
        return self.lock.kind

    def fields(self) -> dict[str, object]:
        """The fields as the header writes them, without the wrapped key."""
        return self.lock.fields() | {
            "created": self.created,
            "id": self.id,
            "kind": self.kind,
            "label": self.label,
        }

    def to_json(self) -> dict[str, object]:
        """The whole slot as the header writes it."""
        return self.fields() | {"wrapped": self.wrapped.hex()}


def wrap(store_key: bytes, opener: Opener, label: str, *, store_id: bytes) -> Slot:
    """Make a new slot for an opener.

    Raises:
        InvalidName: The label is not a name.
    """
    if not NAME.fullmatch(label):
        raise InvalidName(f"{label!r} is not a name for a slot")
    lock = opener.new_lock()
    key = opener.wrapping_key(lock)
    if key is None:
        raise ValueError("an opener refuses its own lock")
    slot = Slot(
        id=os.urandom(ID_BYTES).hex(),
        label=label,
        created=now(),
        lock=lock,
        wrapped=b"",
    )
    sealed = seal(key, f"slot/{slot.kind}", store_key, _associated(slot, store_id))
    return replace(slot, wrapped=sealed)


def unwrap(
    slots: Sequence[Slot], opener: Opener, *, store_id: bytes
) -> tuple[bytes, Slot]:
    """Find the slot an opener fits; give the store key and the slot.

    Raises:
        NoSlotOpens: Wrong passphrase or identity, or no slot of its kind.
        TamperedKeystore: The opener fits a slot that was altered.
    """
    for slot in slots:
        key = opener.wrapping_key(slot.lock)
        if key is None:
            continue
        label, associated = f"slot/{slot.kind}", _associated(slot, store_id)
        try:
            return open_sealed(key, label, slot.wrapped, associated), slot
        except NotThisKey:
            continue
        except Altered:
            raise TamperedKeystore(f"slot {slot.id} was altered") from None
    kinds = sorted({slot.kind for slot in slots})
    if opener.kind not in kinds:
        raise NoSlotOpens(f"it has no {opener.kind} slot, only {' and '.join(kinds)}")
    raise NoSlotOpens(f"{opener} does not open it")


def read_slots(items: Sequence[object]) -> tuple[Slot, ...]:
    """Read and bound all slots of a header.

    Raises:
        MalformedKeystore: A slot does not follow the specification.
        WorkFactorTooHigh: Trying them would cost too much.
    """
    slots = tuple(_read_slot(item) for item in items)
    ids = [slot.id for slot in slots]
    if ids != sorted(set(ids)):
        raise MalformedKeystore("the slots are not in the order of their ids")
    locks = [slot.lock for slot in slots if isinstance(slot.lock, PassphraseLock)]
    total = sum(lock.work.total_kib for lock in locks)
    if total > MAX_TOTAL_KIB:
        raise WorkFactorTooHigh(
            f"the slots need {total} KiB times iterations, limit is {MAX_TOTAL_KIB}"
        )
    return slots


def add(slots: Sequence[Slot], slot: Slot) -> tuple[Slot, ...]:
    """The slots with one more, in order.

    Raises:
        SlotError: There are too many, or the label is taken.
    """
    if slot.label in {old.label for old in slots}:
        raise SlotError(
            f"there is already a slot {slot.label!r}", hint="choose another label"
        )
    if len(slots) == MAX_SLOTS:
        raise SlotError(
            f"a keystore has at most {MAX_SLOTS} slots", hint="remove one first"
        )
    return tuple(sorted((*slots, slot), key=lambda slot: slot.id))


def find(slots: Sequence[Slot], label: str) -> Slot:
    """The slot with a label.

    Raises:
        SlotError: There is none; says which there are.
    """
    for slot in slots:
        if slot.label == label:
            return slot
    known = ", ".join(sorted(slot.label for slot in slots))
    raise SlotError(f"there is no slot {label!r}; known slots: {known}")


def remove(slots: Sequence[Slot], label: str) -> tuple[Slot, ...]:
    """The slots without one of them.

    Raises:
        SlotError: There is no such slot, or it is the only one.
    """
    gone = find(slots, label)
    if len(slots) == 1:
        raise SlotError(
            f"slot {label!r} is the only one; nothing could open the keystore",
            hint="add another slot first",
        )
    return tuple(slot for slot in slots if slot.id != gone.id)


def _associated(slot: Slot, store_id: bytes) -> bytes:
    return store_id.hex().encode("ascii") + b"\n" + encode(slot.fields())


def _read_slot(item: object) -> Slot:
    kind = item.get("kind") if isinstance(item, dict) else None
    if kind == PassphraseLock.kind:
        fields = Fields(item, "slot", (*COMMON_FIELDS, *passphrase.FIELDS))
        lock: Lock = PassphraseLock.read(fields)
    elif kind == IdentityLock.kind:
        fields = Fields(item, "slot", (*COMMON_FIELDS, *identity.FIELDS))
        lock = IdentityLock.read(fields)
    elif kind == TokenLock.kind:
        fields = Fields(item, "slot", (*COMMON_FIELDS, *token.FIELDS))
        lock = TokenLock.read(fields)
    else:
        raise MalformedKeystore("a slot is of no known kind")
    return Slot(
        id=fields.octets("id", ID_BYTES, ID_BYTES).hex(),
        label=fields.text("label", NAME, "a name"),
        created=fields.time("created"),
        lock=lock,
        wrapped=fields.octets("wrapped", WRAPPED_BYTES, WRAPPED_BYTES),
    )
