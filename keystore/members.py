"""Members: who opens the store by a slot, and what each can do then.

A member opens the store key wrapped for his slot, and signs changes of the membership.
docs/spec/keystore-v2.md, sections 2 and 6.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from keystore.canonical import NAME, encode, now
from keystore.errors import (
    IdentityError,
    InvalidName,
    NoSlotOpens,
    TamperedKeystore,
)
from keystore.identity import IdentityLock
from keystore.key_pairs import KeyPairs
from keystore.recipient import HYBRID, Recipient
from keystore.sealing import (
    KEY_BYTES,
    PREFIX_2,
    Altered,
    NotThisKey,
    Secret,
    derive,
    seal,
    unseal,
)
from keystore.slots import ID_BYTES, Opener, Slot, SlotKeys

KEY_ID_BYTES = 32


@dataclass(frozen=True)
class Member:
    """The member who opened the store, for as long as it is open.

    Attributes:
        slot_id: The slot he opened it with.
        wrapping_key: What opens that slot.
        kem: The kind of key pair that he gets when his slot is renewed.
    """

    slot_id: str
    wrapping_key: Secret = field(repr=False)
    kem: str


@dataclass(frozen=True)
class Opened:
    """What a slot holds for its owner.

    Attributes:
        slot: The slot.
        store_key: The store key of this state.
        pairs: His key pairs; None in a store of format 1.
    """

    slot: Slot
    store_key: Secret = field(repr=False)
    pairs: KeyPairs | None = field(repr=False)


def key_id_of(store_key: Secret, store_id: bytes) -> str:
    """Return the id that members sign in place of the store key."""
    size = KEY_ID_BYTES
    return derive(
        store_key, "key-id", salt=store_id, size_bytes=size, prefix=PREFIX_2
    ).hex()


def find_member(slots: Sequence[Slot], opener: Opener, store_id: bytes) -> Member:
    """Find the slot that an opener fits.

    Raises:
        NoSlotOpens: Wrong passphrase or identity, or no slot of its kind.
        TamperedKeystore: The opener fits a slot that was altered.
    """
    for slot in slots:
        key = opener.wrapping_key(slot.lock)
        if key is None:
            continue
        try:
            _seed_of(slot, key, store_id)
        except NotThisKey:
            continue
        except Altered:
            raise _altered(slot) from None
        return Member(slot.id, key, getattr(opener, "kem", HYBRID))
    kinds = sorted({slot.kind for slot in slots})
    if opener.kind not in kinds:
        raise NoSlotOpens(f"it has no {opener.kind} slot, only {' and '.join(kinds)}")
    raise NoSlotOpens(f"{opener} does not open it")


def open_slot(
    member: Member, slots: Sequence[Slot], store_id: bytes, key_id: str
) -> Opened:
    """Open a member's slot in this state of the store.

    Raises:
        NoSlotOpens: His slot is gone.
        TamperedKeystore: It was altered.
    """
    slot = next((slot for slot in slots if slot.id == member.slot_id), None)
    if slot is None:
        raise NoSlotOpens(
            "the slot that opened it has been removed or replaced since",
            hint="open it again with another passphrase, identity or token",
        )
    try:
        seed = _seed_of(slot, member.wrapping_key, store_id)
    except (NotThisKey, Altered):
        raise _altered(slot) from None
    if slot.keys is None:
        return Opened(slot, seed, None)
    pairs = KeyPairs(seed, slot.keys.recipient.kem)
    store_key = pairs.unwrap(slot.keys.sealed, _info(slot, store_id, key_id))
    fits = pairs.recipient == slot.keys.recipient
    if store_key is None or len(store_key) != KEY_BYTES or not fits:
        raise _altered(slot)
    return Opened(slot, store_key, pairs)


def new_slot(
    opener: Opener | Recipient, label: str, store_id: bytes
) -> tuple[Slot, Member]:
    """Make a slot without a store key in it, and return it with what its owner holds.

    Raises:
        InvalidName: The label is not a name.
    """
    if not NAME.fullmatch(label):
        raise InvalidName(f"{label!r} is not a valid name for a slot")
    if isinstance(opener, Recipient):
        return _of_recipient(opener, label), Member("", b"", opener.kem)
    lock = opener.new_lock()
    key = opener.wrapping_key(lock)
    if key is None:
        raise ValueError("an opener refuses its own lock")
    kem = getattr(opener, "kem", HYBRID)
    slot = Slot(id=_new_id(), label=label, created=now(), lock=lock)
    slot = _with_new_keys(slot, key, kem, store_id)
    return slot, Member(slot.id, key, kem)


def renewed(slot: Slot, member: Member, store_id: bytes) -> tuple[Slot, Member]:
    """Return a member's slot under a new id, with keys of format 2 of his own."""
    bare = replace(slot, id=_new_id(), created=now(), wrapped=None, keys=None)
    fresh = _with_new_keys(bare, member.wrapping_key, member.kem, store_id)
    return fresh, replace(member, slot_id=fresh.id)


def carried_over(slot: Slot, store_key: Secret, store_id: bytes) -> tuple[Slot, bytes]:
    """Return a slot of format 1 for a store of format 2, and the seed of its key pairs.

    Its owner is not present, so the seed is sealed under the store key of format 1,
    which only he and those who already knew it can find.
    """
    seed = os.urandom(KEY_BYTES)
    return _with_seed(slot, seed, HYBRID, store_key, store_id), seed


def with_store_key(slot: Slot, store_key: Secret, store_id: bytes) -> Slot:
    """Return the slot with the store key wrapped for its owner."""
    if slot.keys is None:
        raise ValueError("a slot of format 1 has no public key")
    info = _info(slot, store_id, key_id_of(store_key, store_id))
    return slot.with_sealed(slot.keys.recipient.wrap(store_key, info))


def _of_recipient(recipient: Recipient, label: str) -> Slot:
    if not recipient.verify:
        raise IdentityError(
            "the recipient is a key on a token: it opens issued bundles, and no slot "
            "is made from its line",
            hint="on the machine with the token, run `mlguard keys slots add NAME "
            "--new-token URI`",
        )
    lock = IdentityLock(identity_id=recipient.id)
    keys = SlotKeys(recipient=recipient, seed=b"", sealed=b"")
    return Slot(id=_new_id(), label=label, created=now(), lock=lock, keys=keys)


def _with_new_keys(slot: Slot, key: Secret, kem: str, store_id: bytes) -> Slot:
    if slot.kind != IdentityLock.kind:
        return _with_seed(slot, os.urandom(KEY_BYTES), HYBRID, key, store_id)
    recipient = KeyPairs(key, kem).recipient
    keys = SlotKeys(recipient=recipient, seed=b"", sealed=b"")
    return replace(slot, lock=IdentityLock(identity_id=recipient.id), keys=keys)


def _with_seed(slot: Slot, seed: bytes, kem: str, key: Secret, store_id: bytes) -> Slot:
    keys = SlotKeys(recipient=KeyPairs(seed, kem).recipient, seed=b"", sealed=b"")
    open_ = replace(slot, keys=keys)
    sealed = seal(key, f"seed/{slot.kind}", seed, _bound(open_, store_id))
    return replace(slot, keys=replace(keys, seed=sealed))


def _seed_of(slot: Slot, key: Secret, store_id: bytes) -> Secret:
    """Return the seed of a slot's key pairs; in format 1 the store key itself."""
    if slot.wrapped is not None:
        associated = store_id.hex().encode("ascii") + b"\n" + encode(slot.fields())
        key = unseal(key, f"slot/{slot.kind}", slot.wrapped, associated)
    if slot.keys is None or not slot.keys.seed:
        return key
    return unseal(key, f"seed/{slot.kind}", slot.keys.seed, _bound(slot, store_id))


def _bound(slot: Slot, store_id: bytes) -> bytes:
    return store_id.hex().encode("ascii") + b"\n" + encode(slot.with_public())


def _info(slot: Slot, store_id: bytes, key_id: str) -> bytes:
    lines = f"{store_id.hex()}\n{slot.digest()}\n{key_id}".encode("ascii")
    return PREFIX_2 + b"store-key\n" + lines


def _new_id() -> str:
    return os.urandom(ID_BYTES).hex()


def _altered(slot: Slot) -> TamperedKeystore:
    return TamperedKeystore(f"slot {slot.id} was altered")
