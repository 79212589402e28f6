"""Slots: the ways to open the store, each with its own copy of the store key.

In format 2 a slot has public keys, and the store key is wrapped for them; in format 1
the store key is wrapped under the opener's own key. This module knows how slots are
written; `members` knows how they open. docs/spec/keystore-v2.md, section 2.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from keystore import identity, passphrase, token
from keystore.canonical import NAME, Fields, encode
from keystore.errors import (
    MalformedKeystore,
    SlotError,
    WorkFactorTooHigh,
)
from keystore.identity import IdentityLock
from keystore.passphrase import PassphraseLock
from keystore.recipient import (
    ENC_BYTES,
    HYBRID,
    PUBLIC_BYTES,
    TAG_BYTES,
    VERIFY_BYTES,
    X25519,
    Recipient,
)
from keystore.sealing import KEY_BYTES, OVERHEAD_BYTES, Secret
from keystore.token import TokenLock

MAX_SLOTS = 16
MAX_TOTAL_KIB = 16 * passphrase.MAX_MEMORY_KIB  # about 20 s on two cores
ID_BYTES = 4
WRAPPED_BYTES = KEY_BYTES + OVERHEAD_BYTES
COMMON_FIELDS = ("created", "id", "kind", "label")
KEY_FIELDS = ("kem", "public", "sealed", "seed", "verify")
KEM = re.compile(f"{X25519}|{HYBRID}")

Lock = PassphraseLock | IdentityLock | TokenLock
LOCKS: dict[object, tuple[type[Lock], tuple[str, ...]]] = {
    PassphraseLock.kind: (PassphraseLock, passphrase.FIELDS),
    IdentityLock.kind: (IdentityLock, identity.FIELDS),
    TokenLock.kind: (TokenLock, token.FIELDS),
}


class Opener(Protocol):
    """Something that opens a slot: a Passphrase, an Identity or a Token."""

    @property
    def kind(self) -> str:
        """The kind of slot it opens."""

    def new_lock(self) -> Lock:
        """The public part of a new slot for it."""

    def wrapping_key(self, lock: object) -> Secret | None:
        """The key for a slot, or None if it cannot be this opener's."""


@dataclass(frozen=True, kw_only=True)
class SlotKeys:
    """The keys of a slot of format 2.

    Attributes:
        recipient: Its public keys.
        seed: The sealed seed of its private keys; empty where an identity is the seed.
        sealed: The store key, wrapped for the recipient.
    """

    recipient: Recipient
    seed: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One way to open the store.

    Attributes:
        wrapped: The store key that a store of format 1 had, under the opener's key.
        keys: None in a store of format 1.
    """

    id: str
    label: str
    created: str
    lock: Lock
    wrapped: bytes | None = field(default=None, repr=False)
    keys: SlotKeys | None = None

    @property
    def kind(self) -> str:
        """What opens it: passphrase, identity or pkcs11."""
        return self.lock.kind

    @property
    def unrenewed(self) -> bool:
        """Whether it came from format 1 and its owner never wrote since."""
        return self.wrapped is not None

    def fields(self) -> dict[str, object]:
        """Return the fields as the header writes them, without keys."""
        return self.lock.fields() | {
            "created": self.created,
            "id": self.id,
            "kind": self.kind,
            "label": self.label,
        }

    def with_public(self) -> dict[str, object]:
        """Return the fields with the public keys; the sealed seed is bound to them."""
        fields = self.fields()
        if self.keys is not None:
            fields |= {
                "kem": self.keys.recipient.kem,
                "public": self.keys.recipient.public.hex(),
                "verify": self.keys.recipient.verify.hex(),
            }
        if self.wrapped is not None:
            fields |= {"wrapped": self.wrapped.hex()}
        return fields

    def to_json(self) -> dict[str, object]:
        """Return the whole slot as the header writes it."""
        if self.keys is None:
            return self.with_public()
        return self._settled() | {"sealed": self.keys.sealed.hex()}

    def digest(self) -> str:
        """The digest of all but the store key, which names the slot in the chain."""
        return hashlib.sha256(encode(self._settled())).hexdigest()

    def with_sealed(self, sealed: bytes) -> "Slot":
        """Return the slot with another wrapped store key."""
        if self.keys is None:
            raise ValueError("a slot of format 1 has no public key")
        return replace(self, keys=replace(self.keys, sealed=sealed))

    def _settled(self) -> dict[str, object]:
        if self.keys is None:
            raise ValueError("a slot of format 1 has no digest")
        return self.with_public() | {"seed": self.keys.seed.hex()}


def read_slots(items: Sequence[object], version: int) -> tuple[Slot, ...]:
    """Read and bound all slots of a header.

    Raises:
        MalformedKeystore: A slot does not follow the specification.
        WorkFactorTooHigh: Trying them would cost too much.
    """
    slots = tuple(_read_slot(item, version) for item in items)
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
    """Return the slots with one more, in order.

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
    return in_order((*slots, slot))


def in_order(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """Return the slots in the order of a header."""
    return tuple(sorted(slots, key=lambda slot: slot.id))


def find(slots: Sequence[Slot], label: str) -> Slot:
    """Return the slot with a label.

    Raises:
        SlotError: There is none; the refusal lists those that exist.
    """
    for slot in slots:
        if slot.label == label:
            return slot
    known = ", ".join(sorted(slot.label for slot in slots))
    raise SlotError(f"there is no slot {label!r}; known slots: {known}")


def remove(slots: Sequence[Slot], labels: Sequence[str]) -> tuple[Slot, ...]:
    """Return the slots without some of them.

    Raises:
        SlotError: A slot does not exist, none would be left, or one that stays would
            still let the removed member in.
    """
    gone = {find(slots, label).id for label in labels}
    left = tuple(slot for slot in slots if slot.id not in gone)
    if not left:
        only = f"slot {labels[0]!r} is the only one"
        raise SlotError(
            f"{only if len(gone) == 1 else 'that is every slot'}; "
            "nothing could open the keystore",
            hint="add another slot first",
        )
    refuse_unrenewed(left)
    return left


def refuse_unrenewed(staying: Sequence[Slot]) -> None:
    """Refuse to take access away while a remaining slot would give it back.

    Raises:
        SlotError: A slot came from format 1 and its owner never wrote since.
    """
    names = ", ".join(slot.label for slot in staying if slot.unrenewed)
    if names:
        raise SlotError(
            f"slots that come from format 1 and were not renewed yet: {names}; they "
            "could still open what is taken away",
            hint="ask the owner of each to run `mlguard keys slots renew`, or remove "
            f"them in the same command: {names}",
        )


def _read_slot(item: object, version: int) -> Slot:
    given = item if isinstance(item, dict) else {}
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in LOCKS:
        raise MalformedKeystore("a slot is of an unknown kind")
    lock, names = LOCKS[kind]
    unrenewed = version == 1 or "wrapped" in given
    if unrenewed and given.get("mechanism") == token.ECDH:
        raise MalformedKeystore("slot: mechanism is not one of format 1")
    names = (*COMMON_FIELDS, *names, *(KEY_FIELDS if version > 1 else ()))
    fields = Fields(item, "slot", (*names, "wrapped") if unrenewed else names)
    size = WRAPPED_BYTES
    return Slot(
        id=fields.octets("id", ID_BYTES, ID_BYTES).hex(),
        label=fields.text("label", NAME, "a name"),
        created=fields.time("created"),
        lock=lock.read(fields),
        wrapped=fields.octets("wrapped", size, size) if unrenewed else None,
        keys=_read_keys(fields, kind, unrenewed) if version > 1 else None,
    )


def _read_keys(fields: Fields, kind: str, unrenewed: bool) -> SlotKeys:
    kem = fields.text("kem", KEM, "a known one")
    by_identity = kind == IdentityLock.kind and not unrenewed
    if kem != HYBRID and not by_identity:
        raise fields.bad("kem", HYBRID)
    seed = 0 if by_identity else WRAPPED_BYTES
    public, sealed = PUBLIC_BYTES[kem], ENC_BYTES[kem] + KEY_BYTES + TAG_BYTES
    return SlotKeys(
        recipient=Recipient(
            kem=kem,
            public=fields.octets("public", public, public),
            verify=fields.octets("verify", VERIFY_BYTES, VERIFY_BYTES),
        ),
        seed=fields.octets("seed", seed, seed),
        sealed=fields.octets("sealed", sealed, sealed),
    )
