"""The keystore: named, versioned secrets in one sealed place.

Reading works on the state that was opened. Every change first reads the newest
state under the lock, so that two writers never lose each other's work. Knows nothing
of models. docs/spec/keystore-v1.md.
"""

import contextlib
import hmac
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn, Self

from keystore import slots as slot_rules
from keystore.entries import Entry
from keystore.errors import (
    KeyNotUsable,
    KeystoreBusy,
    KeystoreError,
    MalformedKeystore,
    RolledBackKeystore,
)
from keystore.file_storage import FileStorage
from keystore.header import (
    MAX_GENERATION,
    STORE_ID_BYTES,
    Frame,
    Header,
    open_payload,
    put_together,
    take_apart,
)
from keystore.payload import Contents
from keystore.sealing import KEY_BYTES
from keystore.slots import Opener, Slot
from keystore.storage import Revision, RevisionChanged, Storage

BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class _State:
    """One revision of a store, opened."""

    header: Header
    contents: Contents = field(repr=False)
    checksum: str

    @property
    def revision(self) -> Revision:
        return Revision(self.header.generation, self.checksum)


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

    def __init__(self, storage: Storage, store_key: bytes, state: _State) -> None:
        self._storage = storage
        self._store_key: bytes | None = store_key
        self._state = state
        self.busy_timeout_s = BUSY_TIMEOUT_S

    @classmethod
    def create(
        cls, place: Path | Storage, opener: Opener, *, label: str | None = None
    ) -> Self:
        """Make an empty keystore with one slot.

        Args:
            place: Where it shall be; a missing folder is made.
            opener: The passphrase or identity that will open it.
            label: A name for its slot; the opener's kind if none is given.

        Raises:
            KeystoreExists: Something is already there.
            KeystoreNotWritable: It could not be saved.
        """
        storage = _storage(place)
        store_key, store_id = os.urandom(KEY_BYTES), os.urandom(STORE_ID_BYTES)
        slot = slot_rules.wrap(
            store_key, opener, label or opener.kind, store_id=store_id
        )
        header = Header(store_id=store_id, generation=1, slots=(slot,))
        state, data = _seal(header, Contents.empty(), store_key)
        storage.swap(None, data, _reader_of(state, store_key))
        return cls(storage, store_key, state)

    @classmethod
    def open(cls, place: Path | Storage, opener: Opener) -> Self:
        """Open a keystore that exists.

        Raises:
            KeystoreNotFound: There is none.
            KeystoreNotReadable: There is something, but it cannot be read.
            MalformedKeystore: It is damaged, or not a keystore.
            WorkFactorTooHigh: It asks for more work than we allow; none was done.
            NoSlotOpens: Wrong passphrase or identity.
            TamperedKeystore: The opener fits, but the store was altered.
        """
        storage = _storage(place)
        with _naming(storage):
            frame = take_apart(storage.read())
            header = frame.header
            store_key = slot_rules.unwrap(
                header.slots, opener, store_id=header.store_id
            )
            return cls(storage, store_key, _open(frame, store_key))

    @property
    def location(self) -> str:
        """Where the store is, in words."""
        return self._storage.location

    @property
    def store_id(self) -> str:
        """Thirty-two hex digits that name the store for ever."""
        return self._state.header.store_id.hex()

    @property
    def generation(self) -> int:
        """How often the store was written, as of the state we hold."""
        return self._state.header.generation

    def names(self) -> tuple[str, ...]:
        """The names of all keys, in order."""
        return self._contents().names()

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
            raise KeyNotUsable(f"version {found.id} of {name} is {found.state}")
        return found.secret

    def add(self, name: str, secret: bytes, *, purpose: str = "model") -> Entry:
        """Store a secret under a new name, as version 1.

        Raises:
            InvalidName: Not a name a key can have.
            KeyExists: The name is taken.
            KeystoreBusy: Another process kept the lock.
            KeystoreNotWritable: It could not be saved; nothing changed.
        """
        entry = Entry.new(name, secret, purpose=purpose)
        self._change_contents(lambda contents: contents.with_new(entry))
        return entry.without_secrets()

    def add_version(self, name: str, secret: bytes) -> int:
        """Add a version to a key, and give its number. It is not primary yet.

        Raises:
            KeyNotFound: No key has that name.
            KeystoreBusy: Another process kept the lock.
            KeystoreNotWritable: It could not be saved; nothing changed.
        """

        def edit(contents: Contents) -> Contents:
            return contents.with_entry(contents.entry(name).with_version(secret))

        self._change_contents(edit)
        return self._entry(name).versions[-1].id

    def slots(self) -> tuple[Slot, ...]:
        """What opens the store."""
        return self._state.header.slots

    def add_slot(self, opener: Opener, *, label: str | None = None) -> Slot:
        """Let one more passphrase or identity open the store.

        Raises:
            SlotError: There are too many, or the label is taken.
            InvalidName: The label is not a name.
        """
        slot = slot_rules.wrap(
            self._key(),
            opener,
            label or opener.kind,
            store_id=self._state.header.store_id,
        )

        def edit(state: _State) -> tuple[Header, Contents]:
            slots = slot_rules.add(state.header.slots, slot)
            return replace(state.header, slots=slots), state.contents

        self._change(edit)
        return slot

    def close(self) -> None:
        """Forget the store key and the contents. Python may keep copies for a while."""
        self._store_key = None
        self._state = replace(self._state, contents=Contents.empty())

    def _contents(self) -> Contents:
        self._key()
        return self._state.contents

    def _entry(self, name: str) -> Entry:
        with _naming(self._storage):
            return self._contents().entry(name)

    def _key(self) -> bytes:
        if self._store_key is None:
            raise ValueError("the keystore is closed")
        return self._store_key

    def _change_contents(self, edit: Callable[[Contents], Contents]) -> None:
        self._change(lambda state: (state.header, edit(state.contents)))

    def _change(self, edit: Callable[[_State], tuple[Header, Contents]]) -> None:
        store_key, deadline = self._key(), time.monotonic() + self.busy_timeout_s
        with self._storage.turn(self.busy_timeout_s), _naming(self._storage):
            while True:
                newest = self._newest(store_key)
                header, contents = edit(newest)
                header = replace(header, generation=_next(newest.header.generation))
                state, data = _seal(header, contents, store_key)
                try:
                    self._storage.swap(
                        newest.revision, data, _reader_of(state, store_key)
                    )
                except RevisionChanged:  # a storage without turns; go on from theirs
                    _pause_until(deadline, self._storage.location)
                else:
                    self._state = state
                    return

    def _newest(self, store_key: bytes) -> _State:
        frame = take_apart(self._storage.read())
        ours = self._state.header
        if frame.header.store_id != ours.store_id:
            raise RolledBackKeystore("another keystore was put in its place")
        if frame.header.generation < ours.generation:
            raise RolledBackKeystore(
                f"it went back from generation {ours.generation} "
                f"to {frame.header.generation}"
            )
        if frame.checksum == self._state.checksum:
            return self._state
        return _open(frame, store_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Keystore({self.location!r}, generation={self.generation})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keystore is never pickled; open it again")


def _storage(place: Path | Storage) -> Storage:
    return place if isinstance(place, Storage) else FileStorage(place)


def _open(frame: Frame, store_key: bytes) -> _State:
    plaintext = open_payload(frame, store_key)
    return _State(frame.header, Contents.decode(plaintext), frame.checksum)


def _seal(header: Header, contents: Contents, store_key: bytes) -> tuple[_State, bytes]:
    data = put_together(header, store_key, contents.encode())
    return _State(header, contents, take_apart(data).checksum), data


def _reader_of(state: _State, store_key: bytes) -> Callable[[bytes], None]:
    """What a storage runs on the bytes it reads back, before they count."""

    def check(data: bytes) -> None:
        found = open_payload(take_apart(data), store_key)
        if not hmac.compare_digest(found, state.contents.encode()):
            raise MalformedKeystore("what was read back is not what was written")

    return check


def _next(generation: int) -> int:
    if generation == MAX_GENERATION:
        raise MalformedKeystore("the generation cannot grow any further")
    return generation + 1


def _pause_until(deadline: float, location: str) -> None:
    if time.monotonic() > deadline:
        raise KeystoreBusy(f"{location} is changed by others all the time")
    time.sleep(random.uniform(0.001, 0.02))  # so that writers do not stay in step


@contextlib.contextmanager
def _naming(storage: Storage) -> Iterator[None]:
    """Put the place in front of refusals that do not know it."""
    try:
        yield
    except KeystoreError as refusal:
        if storage.location in str(refusal):
            raise
        hint = refusal.hint
        raise type(refusal)(f"{storage.location}: {refusal}", hint=hint) from None
