"""A store that is open: its newest state, and the one way to change it.

Every change reads the newest state in our turn, writes the log, then swaps. The module
knows nothing of what a change means. docs/spec/keystore-v1.md, sections 7 to 9;
docs/spec/keystore-v2.md.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from keystore.canonical import MAX_INTEGER
from keystore.chain import check_chain
from keystore.draft import Draft
from keystore.errors import (
    KeystoreBusy,
    KeystoreError,
    MalformedKeystore,
    RolledBackKeystore,
    TamperedKeystore,
    TamperedLog,
)
from keystore.header import (
    CLAIM_BYTES,
    FORMAT,
    Frame,
    Header,
    claimed,
    open_payload,
    put_together,
    take_apart,
)
from keystore.log import TAIL_BYTES, Deed, LogKey, log_key_of
from keystore.members import Member, key_id_of, open_slot
from keystore.payload import Contents, LogEpoch
from keystore.pins import Pin, Pins
from keystore.sealing import Secret, wipe
from keystore.storage import Check, Revision, RevisionChanged, Storage

BUSY_TIMEOUT_S = 30.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class State:
    """One revision of a store, opened."""

    header: Header
    contents: Contents = field(repr=False)
    checksum: str
    store_key: Secret = field(repr=False)

    @property
    def revision(self) -> Revision:
        """The generation and checksum that a storage compares."""
        return Revision(self.header.generation, self.checksum)

    @property
    def pin(self) -> Pin:
        """The pin of this state, to be kept outside the store."""
        return Pin(
            store_id=self.header.store_id.hex(),
            generation=self.header.generation,
            checksum=self.checksum,
            chain=tuple(link.digest() for link in self.header.chain),
        )

    def log_key(self) -> LogKey:
        """The key that writes and checks this store's log."""
        return log_key_of(self.store_key, self.header.store_id, self.contents)


@dataclass(frozen=True)
class Change:
    """What an edit makes of a state, and what the log will say about it.

    Attributes:
        header: The header with other slots, if the edit changes slots.
        member: The member from then on, if his own slot was replaced.
    """

    header: Header
    contents: Contents = field(repr=False)
    deed: Deed
    member: Member | None = None


Edit = Callable[[State], Change]


class OpenStore:
    """An open store: its storage, the member who opened it, and the state at hand.

    Args:
        storage: Where it lies.
        member: The member who opened it.
        state: What was opened.
        pins: Where to remember the newest state.
        elsewhere: How many records of the log are known to be elsewhere.
        say: Called with what the user should know and need not decide.
    """

    def __init__(
        self,
        storage: Storage,
        member: Member,
        state: State,
        pins: Pins | None,
        *,
        elsewhere: int = 0,
        say: Say | None = None,
    ) -> None:
        self.storage = storage
        self.state = state
        self.busy_timeout_s = BUSY_TIMEOUT_S
        self.elsewhere = elsewhere
        self._member: Member | None = member
        self._pins = pins
        self._say = say or _say_nothing
        self.pinned = self._remember()

    @property
    def member(self) -> Member:
        """The member who opened the store, while it is open."""
        if self._member is None:
            raise ValueError("the keystore is closed")
        return self._member

    @property
    def contents(self) -> Contents:
        """The contents of the state at hand, while the store is open."""
        if self._member is None:
            raise ValueError("the keystore is closed")
        return self.state.contents

    def close(self) -> None:
        """Forget the keys and the contents, and wipe our copies of them."""
        if self._member is not None:
            wipe(self._member.wrapping_key)
        wipe(self.state.store_key)
        self.state.contents.wipe()
        self._member = None
        self.state = replace(self.state, contents=Contents.empty(), store_key=b"")

    def accept_log(self) -> None:
        """Go on from an older state although the log names later ones.

        Raises:
            KeystoreNotWritable: The store must be written for that, and could not be.
        """
        tail = self.storage.read_log(TAIL_BYTES)
        try:
            told = self.state.log_key().generation_of(tail)
        except TamperedLog:  # of a later store key
            self.storage.set_log_aside()
            self._say(
                f"{self.storage.location}: the log did not match the keystore and was "
                "set aside"
            )
            head = self.state.contents.log
            self.elsewhere = head.count if head else 0
            self.pinned = self._remember()
            return
        if told > self.state.header.generation + 1:
            accept = Deed(op="accept")
            self.change(
                lambda now: Change(now.header, now.contents, accept), after=told
            )

    def change(self, edit: Edit, *, after: int = 0) -> State:
        """Apply an edit to the newest state, log it, and save the result.

        Args:
            edit: What is changed.
            after: The new generation has to be above this one.

        Raises:
            KeystoreBusy: Our turn did not come in time.
            RolledBackKeystore: The store went back or was replaced in the meantime.
            LogNotWritable: The log could not be written; nothing changed.
            KeystoreNotWritable: It could not be saved; nothing changed.
            NoSlotOpens: Our own slot was removed in the meantime.
        """
        deadline = time.monotonic() + self.busy_timeout_s
        with self.storage.turn(self.busy_timeout_s), naming(self.storage):
            while True:
                newest = self.newest()
                draft, contents, deed = self._edited(newest, edit, after)
                state, data, check = seal_state(draft.header, contents, draft.store_key)
                keep = not (draft.rekeyed or deed.erases)
                try:
                    self.storage.swap(newest.revision, data, check, keep=keep)
                except RevisionChanged:  # a storage without turns: go on from theirs
                    state.contents.wipe()
                    _pause_until(deadline, self.storage.location)
                else:
                    newest.contents.wipe()
                    if self.state is not newest:
                        self.state.contents.wipe()
                    self._member, self.state = draft.member, state
                    self.pinned = self._remember()
                    return state

    def tell(self, deed: Deed) -> None:
        """Log an action that changes no key, such as an export.

        The store is written as well: it remembers the record, so that cutting the
            record off the log is noticed.

        Raises:
            LogNotWritable: It could not be written; do not go on.
        """
        self.change(lambda now: Change(now.header, now.contents, deed))

    def newest(self) -> State:
        """Return the state that the storage holds now, if it can have followed ours."""
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
        if frame.header.chain[: len(ours.chain)] != ours.chain:
            raise RolledBackKeystore(
                "its slots have a different history from the one they had"
            )
        return open_state(frame, self.member)

    def _edited(
        self, now: State, edit: Edit, after: int
    ) -> tuple[Draft, Contents, Deed]:
        """Return the parts of the next state, once the log is written."""
        generation = following(max(now.header.generation, after))
        header = replace(now.header, generation=generation)
        draft = Draft(header, now.store_key, self.member).current()
        if now.header.version != FORMAT:
            self._say(
                f"{self.storage.location} is a keystore of format {now.header.version}"
                f" and is now upgraded to format {FORMAT}, which older versions of "
                "mlguard cannot read"
            )
        change = edit(replace(now, header=draft.header))
        if change.header.slots != draft.header.slots:
            draft = draft.with_slots(change.header.slots)
        if change.member is not None:
            draft = replace(draft, member=change.member)
        contents = self._logged(now, change, generation, rekeyed=draft.rekeyed)
        return draft, contents, change.deed

    def _logged(
        self, now: State, change: Change, generation: int, *, rekeyed: bool
    ) -> Contents:
        upgraded = [] if now.header.version == FORMAT else [Deed(op="upgrade")]
        key = now.log_key()
        lines, head = key.next_lines(
            self.storage.read_log(TAIL_BYTES),
            now.contents.log,
            [*upgraded, change.deed],
            generation=generation,
            elsewhere=self.elsewhere,
        )
        for line in lines:
            self.storage.append_log(line)
        contents = replace(change.contents, log=head)
        if not rekeyed:
            return contents
        epoch = LogEpoch(key=key.key, last=head.count)
        return replace(contents, log_epochs=(*contents.log_epochs, epoch))

    def _remember(self) -> bool:
        if self._pins is None:
            return False
        pin = replace(self.state.pin, elsewhere=self.elsewhere)
        return self._pins.remember(self.storage.location, pin)


def open_state(frame: Frame, member: Member) -> State:
    """Authenticate a file and read its contents.

    Raises:
        NoSlotOpens: The member's slot is gone.
        TamperedKeystore: It is not what members wrote.
        MalformedKeystore: Its contents do not follow the specification.
    """
    header = frame.header
    store_id = header.store_id
    store_key = open_slot(member, header.slots, store_id, header.key_id).store_key
    if header.version > 1:
        check_chain(header.chain, header.slots, header.generation, store_id)
        if key_id_of(store_key, store_id) != header.key_id:
            raise TamperedKeystore(
                "the store key is not the one that the members signed"
            )
    plaintext = open_payload(frame, store_key)
    contents = Contents.decode(plaintext, header.version)
    return State(header, contents, frame.checksum, store_key)


def seal_state(
    header: Header, contents: Contents, store_key: Secret
) -> tuple[State, bytes, Check]:
    """Return a new state, its bytes, and the check of the bytes read back."""
    written = contents.settled()
    plaintext = written.buffer
    data, checksum = put_together(header, store_key, plaintext)

    def check(found: bytes) -> None:
        opened = open_payload(take_apart(found), store_key)
        same = opened == plaintext
        wipe(opened)
        if not same:
            raise MalformedKeystore("what was read back is not what was written")

    return State(header, written, checksum, store_key), data, check


def following(generation: int) -> int:
    """Return the next generation.

    Raises:
        MalformedKeystore: The limit is reached; a store that claims this is a forgery.
    """
    if generation == MAX_INTEGER:
        raise MalformedKeystore("the generation cannot grow any further")
    return generation + 1


def _pause_until(deadline: float, location: str) -> None:
    if time.monotonic() > deadline:
        raise KeystoreBusy(f"{location} is being changed by others all the time")
    time.sleep(random.uniform(0.001, 0.02))  # so that writers do not stay in step


def _say_nothing(_: str) -> None:
    pass


@contextlib.contextmanager
def naming(storage: Storage) -> Iterator[None]:
    """Put the place in front of refusals that do not name it."""
    try:
        yield
    except KeystoreError as refusal:
        if storage.location in str(refusal):
            raise
        hint = refusal.hint
        raise type(refusal)(f"{storage.location}: {refusal}", hint=hint) from None
