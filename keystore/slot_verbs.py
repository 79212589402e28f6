"""The verbs for what opens a store: add, remove and replace slots.

docs/spec/keystore-v1.md, section 3.
"""

from collections.abc import Callable
from dataclasses import replace

from keystore import slots as slot_rules
from keystore.handle import Handle
from keystore.opened import Change, Deed, State
from keystore.slots import Opener, Slot


class SlotVerbs(Handle):
    """What may be done with slots."""

    def slots(self) -> tuple[Slot, ...]:
        """What opens the store."""
        return self._opened.state.header.slots

    def add_slot(self, opener: Opener, *, label: str | None = None) -> Slot:
        """Let one more passphrase or identity open the store.

        Raises:
            SlotError: There are too many, or the label is taken.
            InvalidName: The label is not a name.
        """
        slot = self._wrap(opener, label or opener.kind)
        self._change_slots("slot-add", lambda slots: slot_rules.add(slots, slot))
        return slot

    def remove_slot(self, label: str) -> None:
        """Stop a passphrase or identity from opening the store from now on.

        Raises:
            SlotError: There is no such slot, or it is the only one.
        """
        self._change_slots("slot-remove", lambda slots: slot_rules.remove(slots, label))
        self._opened.storage.drop_backup()  # the old slot would still open it

    def replace_slot(self, opener: Opener, *, label: str | None = None) -> Slot:
        """Change a passphrase or identity: that of a label, or the one we opened with.

        Raises:
            SlotError: There is no such slot.
        """
        name = label or self._slot.label
        slot = self._wrap(opener, name)

        def edit(slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
            gone = slot_rules.find(slots, name)
            return slot_rules.add([old for old in slots if old != gone], slot)

        self._change_slots("slot-replace", edit)
        self._opened.storage.drop_backup()  # the old passphrase would still open it
        return slot

    def _wrap(self, opener: Opener, label: str) -> Slot:
        store_id = self._opened.state.header.store_id
        return slot_rules.wrap(self._opened.store_key, opener, label, store_id=store_id)

    def _change_slots(
        self, op: str, edit: Callable[[tuple[Slot, ...]], tuple[Slot, ...]]
    ) -> None:
        def change(now: State) -> Change:
            header = replace(now.header, slots=edit(now.header.slots))
            return Change(header, now.contents, Deed(op=op))

        self._opened.change(change)
