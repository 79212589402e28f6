"""The verbs for the slots of a store: add, remove, replace and renew.

docs/spec/keystore-v2.md, sections 4 and 6.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from keystore import slots as slot_rules
from keystore.handle import Handle
from keystore.log import Deed
from keystore.members import Member, new_slot
from keystore.opened import Change, State
from keystore.recipient import Recipient
from keystore.slots import Opener, Slot

Slots = tuple[Slot, ...]


class SlotVerbs(Handle):
    """The actions on slots."""

    def slots(self) -> Slots:
        """The slots that open the store."""
        return self._opened.state.header.slots

    def add_slot(self, opener: Opener | Recipient, *, label: str | None = None) -> Slot:
        """Let one more passphrase, identity or token open the store.

        Args:
            opener: What will open it; for an identity, its recipient is enough.
            label: A name for the slot; the opener's kind if none is given.

        Raises:
            SlotError: There are too many, or the label is taken.
            InvalidName: The label is not a name.
        """
        name = label or ("identity" if isinstance(opener, Recipient) else opener.kind)
        slot, _ = self._new_slot(opener, name)
        self._change_slots("slot-add", lambda slots: slot_rules.add(slots, slot))
        return slot_rules.find(self.slots(), name)

    def remove_slot(self, label: str, *more: str) -> None:
        """Stop a passphrase, identity or token from opening the store from now on.

        The store gets a new store key, so that an old copy of it does not help.

        Raises:
            SlotError: The slot does not exist or is the only one, or one that stays
                came from format 1 and was not renewed yet.
        """
        labels = (label, *more)
        self._change_slots(
            "slot-remove", lambda slots: slot_rules.remove(slots, labels)
        )

    def replace_slot(self, opener: Opener, *, label: str | None = None) -> Slot:
        """Replace a passphrase or identity, by its label or the one we opened with.

        The store gets a new store key, so that the old passphrase or identity is
        useless from then on, even with an old copy.

        Raises:
            SlotError: The slot does not exist, or one that stays came from format 1 and
                was not renewed yet.
        """
        name = label or self._own_label(self.slots())
        slot, owner = self._new_slot(opener, name)

        def edit(slots: Slots) -> Slots:
            gone = slot_rules.find(slots, name)
            staying = [old for old in slots if old != gone]
            slot_rules.refuse_unrenewed(staying)
            return slot_rules.add(staying, slot)

        own = name == self._own_label(self.slots())
        self._change_slots("slot-replace", edit, member=owner if own else None)
        return slot_rules.find(self.slots(), name)

    def renew_slot(self) -> Slot:
        """Give the slot we opened with keys of its own, if it came from format 1."""
        if any(slot.keys is None or slot.unrenewed for slot in self._own(self.slots())):
            self._change_slots("slot-renew", lambda slots: slots)
        (slot,) = self._own(self.slots())
        return slot

    def _own(self, slots: Sequence[Slot]) -> list[Slot]:
        return [slot for slot in slots if slot.id == self._opened.member.slot_id]

    def _own_label(self, slots: Sequence[Slot]) -> str:
        return "".join(slot.label for slot in self._own(slots))

    def _new_slot(self, opener: Opener | Recipient, label: str) -> tuple[Slot, Member]:
        return new_slot(opener, label, self._opened.state.header.store_id)

    def _change_slots(
        self, op: str, edit: Callable[[Slots], Slots], *, member: Member | None = None
    ) -> None:
        def change(now: State) -> Change:
            header = replace(now.header, slots=edit(now.header.slots))
            return Change(header, now.contents, Deed(op=op), member)

        self._opened.change(change)
