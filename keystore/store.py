"""The keystore: named, versioned secrets in one sealed place.

Reading works on the state that was opened. Every change first reads the newest state
in its turn, so that two writers never lose each other's work. Knows nothing of
models. docs/spec/keystore-v1.md.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, Self

from keystore import lifecycle
from keystore import slots as slot_rules
from keystore.entries import Entry
from keystore.errors import (
    KeyNotUsable,
    KeystoreError,
    KeystoreExists,
    KeystoreNotFound,
)
from keystore.file_storage import FileStorage
from keystore.header import STORE_ID_BYTES, Header, take_apart
from keystore.log import LogKey, Record
from keystore.opened import (
    Change,
    Deed,
    OpenStore,
    State,
    naming,
    open_state,
    seal_state,
)
from keystore.payload import Contents
from keystore.pins import Pins, compare
from keystore.sealing import KEY_BYTES
from keystore.slots import Opener, Slot
from keystore.storage import Storage


class Keystore:
    """An open keystore. Make one with `create` or `open`.

    Example:
        >>> import tempfile
        >>> from keystore import Identity, Keystore
        >>> identity = Identity.generate()
        >>> path = Path(tempfile.mkdtemp()) / "keystore.mlgk"
        >>> with Keystore.create(path, identity) as store:
        ...     entry = store.add("acme", bytes(32))
        >>> with Keystore.open(path, identity) as store:
        ...     store.names(), len(store.get("acme"))
        (('acme',), 32)
    """

    def __init__(self, opened: OpenStore, slot: Slot) -> None:
        self._opened = opened
        self._slot = slot

    @classmethod
    def create(
        cls,
        place: Path | Storage,
        opener: Opener,
        *,
        label: str | None = None,
        pins: Pins | None = None,
    ) -> Self:
        """Make an empty keystore with one slot.

        Args:
            place: Where it shall be; a missing folder is made.
            opener: The passphrase or identity that will open it.
            label: A name for its slot; the opener's kind if none is given.
            pins: Where to remember how far the store has come.

        Raises:
            KeystoreExists: Something is already there.
            KeystoreNotWritable: It could not be saved.
        """
        storage = as_storage(place)
        store_key, store_id = os.urandom(KEY_BYTES), os.urandom(STORE_ID_BYTES)
        name = label or opener.kind
        slot = slot_rules.wrap(store_key, opener, name, store_id=store_id)
        header = Header(store_id=store_id, generation=1, slots=(slot,))
        with storage.turn(10), naming(storage):
            _refuse_existing(storage)
            storage.set_log_aside()
            line, head = LogKey(store_key, store_id).next_line(
                b"", None, op="create", key="", version=0, generation=1
            )
            storage.append_log(line)
            contents = replace(Contents.empty(), log=head)
            state, data, check = seal_state(header, contents, store_key)
            storage.swap(None, data, check)
        return cls(OpenStore(storage, store_key, state, pins), slot)

    @classmethod
    def open(
        cls,
        place: Path | Storage,
        opener: Opener,
        *,
        pins: Pins | None = None,
        accept: bool = False,
    ) -> Self:
        """Open a keystore that exists.

        Args:
            place: Where it is.
            opener: A passphrase or identity that opens it.
            pins: What was seen before; a store that went back is refused.
            accept: Take the store as it is now, whatever the pins say.

        Raises:
            KeystoreNotFound: There is none.
            KeystoreNotReadable: There is something, but it cannot be read.
            MalformedKeystore: It is damaged, or not a keystore.
            WorkFactorTooHigh: It asks for more work than we allow; none was done.
            NoSlotOpens: Wrong passphrase or identity.
            TamperedKeystore: The opener fits, but the store was altered.
            RolledBackKeystore: It is older, or another, than the one seen before.
        """
        storage = as_storage(place)
        with naming(storage):
            # Before the store: a writer at work must not look like a step back.
            pin = pins.recall(storage.location) if pins and not accept else None
            frame = take_apart(storage.read())
            header = frame.header
            store_key, slot = slot_rules.unwrap(
                header.slots, opener, store_id=header.store_id
            )
            state = open_state(frame, store_key)
            compare(pin, state.pin)
        return cls(OpenStore(storage, store_key, state, pins), slot)

    @property
    def location(self) -> str:
        """Where the store is, in words."""
        return self._opened.storage.location

    @property
    def store_id(self) -> str:
        """Thirty-two hex digits that name the store for ever."""
        return self._opened.state.header.store_id.hex()

    @property
    def generation(self) -> int:
        """How often the store was written, as of the state we hold."""
        return self._opened.state.header.generation

    @property
    def pinned(self) -> bool:
        """Whether the state we hold is remembered outside the store."""
        return self._opened.pinned

    def busy_timeout(self, timeout_s: float) -> None:
        """How long to wait for another process before KeystoreBusy."""
        self._opened.busy_timeout_s = timeout_s

    def names(self) -> tuple[str, ...]:
        """The names of all keys, in order."""
        return self._opened.contents.names()

    def info(self, name: str) -> Entry:
        """All that is known about a key, without its secrets.

        Raises:
            KeyNotFound: No key has that name.
        """
        return self._entry(name).without_secrets()

    def get(self, name: str, version: int | None = None) -> bytes:
        """The secret of a key: its primary version, or the one asked for.

        Raises:
            KeyNotFound: No key has that name, or it has no such version.
            KeyNotUsable: The version is disabled or destroyed.
        """
        found = self._entry(name).version(version)
        if found.state != "enabled" or found.secret is None:
            raise KeyNotUsable(
                f"{self.location}: version {found.id} of {name} is {found.state}"
            )
        return found.secret

    def public_ids(self, name: str, of: Callable[[bytes], str]) -> dict[int, str]:
        """What `of` makes of the secret of every version that has one.

        For names of secrets that may be printed. Disabled versions are named too.
        """
        versions = self._entry(name).versions
        return {v.id: of(v.secret) for v in versions if v.secret is not None}

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
        """Add a version to a key, and give its number. It is not primary yet.

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

        The state before, which still has the secret, is erased as well. Copies made
        elsewhere, and what a disk keeps of erased files, are out of reach.
        """
        entry = self._edit(
            name,
            "destroy",
            version,
            lambda old: lifecycle.destroy(old, version, force=force),
        )
        self._opened.storage.drop_backup()
        return entry

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
        """Forget a use. Raises as `lifecycle.remove_use`."""
        return self._edit(
            name, "disuse", 0, lambda old: lifecycle.remove_use(old, reference)
        )

    def export(self, name: str, version: int | None = None) -> bytes:
        """The secret of a key, to be taken out of the store; logged before it is given.

        Raises:
            NotAllowed: The policy forbids it.
            KeyNotUsable: The version is destroyed.
            LogNotWritable: The log could not be written; nothing is given.
        """
        entry = self._entry(name)
        found = entry.version(version)
        with naming(self._opened.storage):
            lifecycle.check_exportable(entry)
            if found.secret is None:
                raise KeyNotUsable(f"version {found.id} of {name} is destroyed")
        self._opened.tell(Deed(op="export", key=name, version=found.id))
        return found.secret

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

    def check(self) -> tuple[Record, ...]:
        """Read everything there is, entry by entry, and the whole log; give the log.

        Raises:
            MalformedKeystore: An entry does not follow the specification.
            TamperedLog: The log was altered, cut or swapped.
        """
        with naming(self._opened.storage):
            for name in self.names():
                self._entry(name)
            return self.log()

    def log(self) -> tuple[Record, ...]:
        """All records of the audit log, verified.

        Raises:
            TamperedLog: The log was altered, cut or swapped.
        """
        with naming(self._opened.storage):
            # The store first: the log may only run ahead of it.
            head = self._opened.newest().contents.log
            lines = self._opened.storage.read_log()
            return tuple(self._opened.log_key().records(lines, head))

    def tell(self, op: str) -> None:
        """Put something in the log that changes nothing, such as a backup.

        Raises:
            LogNotWritable: It could not be written; do not go on.
        """
        self._opened.tell(Deed(op=op))

    def sealed(self) -> bytes:
        """The newest state as the bytes of its file, for a backup."""
        with naming(self._opened.storage):
            data = self._opened.storage.read()
            open_state(take_apart(data), self._opened.store_key)
            return data

    def close(self) -> None:
        """Forget the store key and the contents. Python may keep copies for a while."""
        self._opened.close()

    def _entry(self, name: str) -> Entry:
        with naming(self._opened.storage):
            return self._opened.contents.entry(name)

    def _wrap(self, opener: Opener, label: str) -> Slot:
        store_id = self._opened.state.header.store_id
        return slot_rules.wrap(self._opened.store_key, opener, label, store_id=store_id)

    def _edit(
        self, name: str, op: str, version: int | None, edit: Callable[[Entry], Entry]
    ) -> Entry:
        def change(now: State) -> Change:
            entry = edit(now.contents.entry(name))
            number = entry.versions[-1].id if version is None else version
            return Change(
                now.header,
                now.contents.with_entry(entry),
                Deed(op=op, key=name, version=number),
            )

        self._opened.change(change)
        return self.info(name)

    def _change_slots(
        self, op: str, edit: Callable[[tuple[Slot, ...]], tuple[Slot, ...]]
    ) -> None:
        def change(now: State) -> Change:
            header = replace(now.header, slots=edit(now.header.slots))
            return Change(header, now.contents, Deed(op=op))

        self._opened.change(change)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Keystore({self.location!r}, generation={self.generation})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keystore is never pickled; open it again")


def as_storage(place: Path | Storage) -> Storage:
    """A path is a file; anything else knows how to store."""
    return place if isinstance(place, Storage) else FileStorage(place)


def _refuse_existing(storage: Storage) -> None:
    try:
        storage.read()
    except KeystoreNotFound:
        return
    except KeystoreError:
        pass  # whatever it is, it is there
    raise KeystoreExists(f"{storage.location} already exists")
