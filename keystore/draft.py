"""A draft of the next state: upgraded where needed, then with other slots.

Every change of the slots is signed; one that takes access away brings a new store
key. Nothing here reads or writes. docs/spec/keystore-v2.md, sections 4 and 6.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from keystore.chain import Signer, next_link
from keystore.header import FORMAT, Header
from keystore.key_pairs import KeyPairs
from keystore.members import (
    Member,
    Opened,
    carried_over,
    key_id_of,
    new_slot,
    open_slot,
    renewed,
    with_store_key,
)
from keystore.recipient import HYBRID
from keystore.sealing import KEY_BYTES, Secret
from keystore.slots import Opener, Slot, in_order


@dataclass(frozen=True)
class Draft:
    """Header and store key of the next state, and the member who signs for it.

    Attributes:
        rekeyed: Whether the store key is a new one.
    """

    header: Header
    store_key: Secret = field(repr=False)
    member: Member
    rekeyed: bool = False

    def current(self) -> "Draft":
        """The same state in format 2, with an old slot of the member's renewed."""
        draft = self if self.header.version == FORMAT else self._upgraded()
        own = next(s for s in draft.header.slots if s.id == draft.member.slot_id)
        if not own.unrenewed:
            return draft
        store_id = draft.header.store_id
        slot, member = renewed(own, draft.member, store_id)
        others = [each for each in draft.header.slots if each != own]
        draft = draft.with_slots(in_order((*others, slot)))
        return replace(draft, member=member)

    def with_slots(self, slots: Sequence[Slot]) -> "Draft":
        """The same state with other slots, signed by the member.

        Raises:
            NoSlotOpens: The member's own slot is gone.
            SlotError: The slots were changed too often.
        """
        old = self.header.slots
        kept = {slot.id for slot in slots}
        rekeyed = any(slot.id not in kept for slot in old)
        signer = self._opened().pairs
        if signer is None:
            raise AssertionError("the slots of format 1 are upgraded before a change")
        key = os.urandom(KEY_BYTES) if rekeyed else self.store_key
        header = _linked(self.header, old, slots, key, self.member.slot_id, signer)
        return Draft(header, key, self.member, self.rekeyed or rekeyed)

    def _opened(self) -> Opened:
        header = self.header
        return open_slot(self.member, header.slots, header.store_id, header.key_id)

    def _upgraded(self) -> "Draft":
        store_id, key = self.header.store_id, self.store_key
        carried = [carried_over(slot, key, store_id) for slot in self.header.slots]
        slots = tuple(slot for slot, _ in carried)
        seeds = {slot.id: seed for slot, seed in carried}
        own = KeyPairs(seeds[self.member.slot_id], HYBRID)
        bare = replace(self.header, slots=(), version=FORMAT)
        header = _linked(bare, (), slots, key, self.member.slot_id, own)
        return replace(self, header=header)


def first_draft(opener: Opener, label: str, store_id: bytes) -> Draft:
    """Return the draft of a new store with one slot.

    Raises:
        InvalidName: The label is not a name.
    """
    key = os.urandom(KEY_BYTES)
    slot, member = new_slot(opener, label, store_id)
    header = Header(store_id=store_id, generation=1, slots=())
    slot = with_store_key(slot, key, store_id)
    opened = open_slot(member, (slot,), store_id, key_id_of(key, store_id))
    if opened.pairs is None:
        raise AssertionError("a new slot has key pairs")
    header = _linked(header, (), (slot,), key, slot.id, opened.pairs)
    return Draft(header, key, member)


def _linked(
    header: Header,
    before: Sequence[Slot],
    after: Sequence[Slot],
    key: Secret,
    by: str,
    signer: Signer,
) -> Header:
    """Return the header with other slots, a store key for each, and a new link."""
    store_id = header.store_id
    slots = tuple(with_store_key(slot, key, store_id) for slot in after)
    link = next_link(
        header.chain,
        before,
        slots,
        by=by,
        generation=header.generation,
        key=key_id_of(key, store_id),
        store_id=store_id,
    )
    chain = (*header.chain, link.signed(signer, store_id))
    return replace(header, slots=slots, chain=chain)
