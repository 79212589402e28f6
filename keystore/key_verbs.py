"""The verbs for the keys of an open store: from add to export.

Every change first reads the newest state in its turn, so that two writers never lose
each other's work. The rules themselves are pure, in `lifecycle`.
"""

from collections.abc import Callable

from keystore import lifecycle
from keystore.entries import Entry
from keystore.errors import KeyNotUsable
from keystore.handle import Handle
from keystore.log import Deed
from keystore.opened import Change, State, naming


class KeyVerbs(Handle):
    """The actions on keys."""

    def add(
        self, name: str, secret: bytes, *, purpose: str = "model", note: str = ""
    ) -> Entry:
        """Store a secret under a new name, as version 1.

        Raises:
            InvalidName: Not a name a key can have, or not a note.
            KeyExists: The name is taken.
            KeystoreBusy: Another process kept the lock.
            KeystoreNotWritable: It could not be saved; nothing changed.
        """
        entry = lifecycle.note(Entry.new(name, secret, purpose=purpose), note)
        deed = Deed(op="add", key=name, version=1)
        self._opened.change(
            lambda now: Change(now.header, now.contents.with_new(entry), deed)
        )
        return entry.without_secrets()

    def add_version(self, name: str, secret: bytes) -> int:
        """Add a version to a key, and return its number. It is not primary yet.

        Raises:
            KeyNotFound: No key has that name.
            KeystoreBusy: Another process kept the lock.
            KeystoreNotWritable: It could not be saved; nothing changed.
        """
        entry = self._edit(name, "rotate", None, lambda old: old.with_version(secret))
        return entry.versions[-1].id

    def promote(self, name: str, version: int) -> Entry:
        """Make a version the primary one. Raises as `lifecycle.promote`."""
        return self._edit(
            name, "promote", version, lambda old: lifecycle.promote(old, version)
        )

    def disable(self, name: str, version: int, *, compromised: bool = False) -> Entry:
        """Take a version out of use. Raises as `lifecycle.disable`."""
        return self._edit(
            name,
            "compromise" if compromised else "disable",
            version,
            lambda old: lifecycle.disable(old, version, compromised=compromised),
        )

    def enable(self, name: str, version: int, *, force: bool = False) -> Entry:
        """Take a version into use again. Raises as `lifecycle.enable`."""
        return self._edit(
            name,
            "enable",
            version,
            lambda old: lifecycle.enable(old, version, force=force),
        )

    def destroy(self, name: str, version: int, *, force: bool = False) -> Entry:
        """Erase a disabled version for ever. Raises as `lifecycle.destroy`.

        The previous state, which still holds the secret, is erased as well. Copies made
        elsewhere, and what a disk keeps of erased files, are out of reach.
        """
        return self._edit(
            name,
            "destroy",
            version,
            lambda old: lifecycle.destroy(old, version, force=force),
            erases=True,
        )

    def allow(
        self, name: str, *, exportable: bool | None = None, deletion: bool | None = None
    ) -> Entry:
        """Change what the policy of a key allows; None leaves a flag as it is."""
        return self._edit(
            name,
            "allow",
            0,
            lambda old: lifecycle.allow(old, exportable=exportable, deletion=deletion),
        )

    def set_note(self, name: str, text: str) -> Entry:
        """Replace the note of a key. Raises as `lifecycle.note`."""
        return self._edit(name, "note", 0, lambda old: lifecycle.note(old, text))

    def add_use(
        self, name: str, kind: str, reference: str, *, version: int | None = None
    ) -> Entry:
        """Register that something needs a version. Raises as `lifecycle.add_use`."""

        def edit(old: Entry) -> Entry:
            number = old.primary if version is None else version
            return lifecycle.add_use(old, kind, reference, number)

        if edit(self._entry(name)) == self._entry(name):
            return self.info(name)  # known already: nothing to write
        return self._edit(name, "use", version or 0, edit)

    def remove_use(self, name: str, reference: str) -> Entry:
        """Remove a use. Raises as `lifecycle.remove_use`."""
        return self._edit(
            name, "disuse", 0, lambda old: lifecycle.remove_use(old, reference)
        )

    def export(self, name: str, version: int | None = None) -> bytes:
        """Return the secret of a key, to be taken out of the store; logged beforehand.

        Raises:
            NotAllowed: The policy forbids it.
            KeyNotUsable: The version is destroyed.
            LogNotWritable: The log could not be written; nothing is returned.
        """
        entry = self._entry(name)
        found = entry.version(version)
        with naming(self._opened.storage):
            lifecycle.check_exportable(entry)
            if found.secret is None:
                raise KeyNotUsable(f"version {found.id} of {name} is destroyed")
        self._opened.tell(Deed(op="export", key=name, version=found.id))
        return found.secret

    def _edit(
        self,
        name: str,
        op: str,
        version: int | None,
        edit: Callable[[Entry], Entry],
        *,
        erases: bool = False,
    ) -> Entry:
        def change(now: State) -> Change:
            entry = edit(now.contents.entry(name))
            number = entry.versions[-1].id if version is None else version
            return Change(
                now.header,
                now.contents.with_entry(entry),
                Deed(op=op, key=name, version=number, erases=erases),
            )

        self._opened.change(change)
        return self.info(name)
