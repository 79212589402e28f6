"""A store that is open: its newest state, and the one way to change it.

Every change reads the newest state in our turn, tells the log, then swaps. Knows
nothing of what the change means. docs/spec/keystore-v1.md, sections 7 to 9.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from keystore.errors import (
    KeystoreBusy,
    KeystoreError,
    MalformedKeystore,
    RolledBackKeystore,
)
from keystore.header import (
    CLAIM_BYTES,
    MAX_GENERATION,
    Frame,
    Header,
    claimed,
    open_payload,
    put_together,
    take_apart,
)
from keystore.log import TAIL_BYTES, LogKey
from keystore.payload import Contents
from keystore.pins import Pin, Pins
from keystore.storage import Check, Revision, RevisionChanged, Storage

BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class State:
    """One revision of a store, opened."""

    header: Header
    contents: Contents = field(repr=False)
    checksum: str

    @property
    def revision(self) -> Revision:
        """What a storage compares."""
        return Revision(self.header.generation, self.checksum)

    @property
    def pin(self) -> Pin:
        """What is remembered outside the store."""
        return Pin(
            store_id=self.header.store_id.hex(),
            generation=self.header.generation,
            checksum=self.checksum,
        )


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What the log says about a change."""

    op: str
    key: str = ""
    version: int = 0


@dataclass(frozen=True)
class Change:
    """What an edit makes of a state, and what the log shall say about it."""

    header: Header
    contents: Contents = field(repr=False)
    deed: Deed


Edit = Callable[[State], Change]


class OpenStore:
    """The storage, the store key and the state we hold."""

    def __init__(
        self, storage: Storage, store_key: bytes, state: State, pins: Pins | None
    ) -> None:
        self.storage = storage
        self.state = state
        self.busy_timeout_s = BUSY_TIMEOUT_S
        self._store_key: bytes | None = store_key
        self._pins = pins
        self.pinned = self._remember()

    @property
    def store_key(self) -> bytes:
        """The store key, while the store is open."""
        if self._store_key is None:
            raise ValueError("the keystore is closed")
        return self._store_key

    @property
    def contents(self) -> Contents:
        """What the state we hold holds, while the store is open."""
        if self._store_key is None:
            raise ValueError("the keystore is closed")
        return self.state.contents

    def close(self) -> None:
        """Forget the store key and the contents."""
        self._store_key = None
        self.state = replace(self.state, contents=Contents.empty())

    def log_key(self) -> LogKey:
        """What writes and checks this store's log."""
        return LogKey(self.store_key, self.state.header.store_id)

    def change(self, edit: Edit) -> State:
        """Apply an edit to the newest state, log it, and save the result.

        Raises:
            KeystoreBusy: Our turn did not come in time.
            RolledBackKeystore: The store went back or was replaced meanwhile.
            LogNotWritable: The log could not be written; nothing changed.
            KeystoreNotWritable: It could not be saved; nothing changed.
        """
        deadline = time.monotonic() + self.busy_timeout_s
        with self.storage.turn(self.busy_timeout_s), naming(self.storage):
            while True:
                newest = self.newest()
                change = edit(newest)
                generation = following(newest.header.generation)
                header = replace(change.header, generation=generation)
                contents = self._logged(change.deed, change.contents, generation)
                state, data, check = seal_state(header, contents, self.store_key)
                try:
                    self.storage.swap(newest.revision, data, check)
                except RevisionChanged:  # a storage without turns: go on from theirs
                    _pause_until(deadline, self.storage.location)
                else:
                    self.state = state
                    self.pinned = self._remember()
                    return state

    def tell(self, deed: Deed) -> None:
        """Log something that changes nothing, such as an export.

        Raises:
            LogNotWritable: It could not be written; do not go on.
        """
        with self.storage.turn(self.busy_timeout_s), naming(self.storage):
            newest = self.newest()
            self._logged(deed, newest.contents, newest.header.generation)

    def newest(self) -> State:
        """The state the storage holds now, if it can have followed ours."""
        if claimed(self.storage.read_start(CLAIM_BYTES)) == self.state.revision:
            return self.state  # not hashed again: it is about to be replaced
        frame, ours = take_apart(self.storage.read()), self.state.header
        if frame.header.store_id != ours.store_id:
            raise RolledBackKeystore("another keystore was put in its place")
        if frame.header.generation < ours.generation:
            raise RolledBackKeystore(
                f"it went back from generation {ours.generation} "
                f"to {frame.header.generation}"
            )
        return open_state(frame, self.store_key)

    def _logged(self, deed: Deed, contents: Contents, generation: int) -> Contents:
        line, head = self.log_key().next_line(
            self.storage.read_log(TAIL_BYTES),
            contents.log,
            op=deed.op,
            key=deed.key,
            version=deed.version,
            generation=generation,
        )
        self.storage.append_log(line)
        return replace(contents, log=head)

    def _remember(self) -> bool:
        if self._pins is None:
            return False
        return self._pins.remember(self.storage.location, self.state.pin)


def open_state(frame: Frame, store_key: bytes) -> State:
    """Authenticate a file and read its contents.

    Raises:
        TamperedKeystore: It is not what a key holder wrote.
        MalformedKeystore: Its contents do not follow the specification.
    """
    plaintext = open_payload(frame, store_key)
    return State(frame.header, Contents.decode(plaintext), frame.checksum)


def seal_state(
    header: Header, contents: Contents, store_key: bytes
) -> tuple[State, bytes, Check]:
    """A new state, its bytes, and what a storage runs on the bytes it reads back."""
    plaintext = contents.encode()
    data, checksum = put_together(header, store_key, plaintext)

    def check(found: bytes) -> None:
        opened = open_payload(take_apart(found), store_key)
        if opened != plaintext:
            raise MalformedKeystore("what was read back is not what was written")

    return State(header, contents, checksum), data, check


def following(generation: int) -> int:
    """The next generation.

    Raises:
        MalformedKeystore: There is none; a store that claims this is a forgery.
    """
    if generation == MAX_GENERATION:
        raise MalformedKeystore("the generation cannot grow any further")
    return generation + 1


def _pause_until(deadline: float, location: str) -> None:
    if time.monotonic() > deadline:
        raise KeystoreBusy(f"{location} is changed by others all the time")
    time.sleep(random.uniform(0.001, 0.02))  # so that writers do not stay in step


@contextlib.contextmanager
def naming(storage: Storage) -> Iterator[None]:
    """Put the place in front of refusals that do not know it."""
    try:
        yield
    except KeystoreError as refusal:
        if storage.location in str(refusal):
            raise
        hint = refusal.hint
        raise type(refusal)(f"{storage.location}: {refusal}", hint=hint) from None
