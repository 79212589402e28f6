"""Copy a store to a backup, and restore it.

A backup is the sealed file itself; any slot it had when it was made opens it. A
restored store moves forward, to a generation above all that were seen, so that nobody's
pins take it for a rollback. docs/spec/keystore-v1.md, section 9;
docs/spec/keystore-v2.md, section 7.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from keystore.draft import Draft
from keystore.errors import (
    KeystoreError,
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotWritable,
    TamperedLog,
)
from keystore.file_storage import FileStorage
from keystore.header import Frame, take_apart
from keystore.log import TAIL_BYTES, Deed
from keystore.members import Member, find_member
from keystore.opened import Say, State, following, naming, open_state, seal_state
from keystore.payload import LogEpoch
from keystore.pins import Pin, Pins, compare
from keystore.slots import Opener
from keystore.storage import Storage
from keystore.store import Keystore, as_storage
from keystore.system import BINARY, CLOEXEC, NOFOLLOW

FILE_MODE = 0o600
TURN_S = 10.0
REVIVED = (
    "the slots are those of the backup: members removed since then can open the "
    "keystore again; `mlguard keys slots list` shows them"
)


def backup(store: Keystore, target: Path) -> str:
    """Copy a store to a new file, and return the SHA-256 of that file.

    Raises:
        KeystoreExists: Something is already at the target.
        KeystoreNotWritable: It could not be written; nothing is left.
        LogNotWritable: The log could not be written; nothing is copied.
    """
    if os.path.lexists(target):
        raise KeystoreExists(f"{target} already exists", hint="choose another path")
    store.tell("backup")
    data = store.sealed()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC | BINARY
    try:
        with open(os.open(target, flags, FILE_MODE), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeystoreExists(f"{target} already exists") from None
    except OSError as error:
        target.unlink(missing_ok=True)
        raise KeystoreNotWritable(f"cannot write {target}: {error.strerror}") from None
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class _Place:
    """What lies in the place that a backup is restored to.

    Attributes:
        generation: The highest generation that the store there, its log and its pin
            name.
        current: The store there, if it opens and did not go back or fork.
        pin: What was seen there before.
        is_new: Whether the place is empty.
    """

    generation: int
    current: tuple[State, Member] | None
    pin: Pin | None
    is_new: bool


def restore(
    place: Path | Storage,
    source: Path,
    opener: Opener,
    *,
    pins: Pins | None = None,
    say: Say | None = None,
) -> tuple[int, int]:
    """Restore a backup, after opening all of it.

    What was in the place is kept beside it. The slots are those of the store in the
    place, if that opens as well; otherwise those of the backup.

    Args:
        place: Where to restore it.
        source: The backup.
        opener: What opens the backup.
        pins: The pins of the stores that were seen.
        say: Called with each thing that the user should know.

    Returns:
        The generation of the backup, and that of the restored store.

    Raises:
        KeystoreNotFound: There is no backup.
        KeystoreExists: The place holds another store.
        NoSlotOpens: Wrong passphrase or identity for the backup.
        MalformedKeystore: The backup is damaged.
        TamperedKeystore: The backup was altered.
    """
    storage, origin = as_storage(place), FileStorage(source)
    with naming(origin):
        old, member = _opened(take_apart(origin.read()), opener)
        for name in old.contents.names():
            old.contents.entry(name)
    with storage.turn(TURN_S), naming(storage):
        there = _look(storage, old, opener, pins)
        base, member = there.current or (old, member)
        if there.current is None and say and _revives(there, old):
            say(REVIVED)
        generation = following(max(there.generation, old.header.generation))
        contents = replace(
            base.contents, bodies=old.contents.bodies, created=old.contents.created
        )
        base = replace(base, contents=contents)
        restored = _put(storage, base, member, generation, is_new=there.is_new)
    if pins:
        pins.remember(storage.location, restored.pin)
    return old.header.generation, generation


def _put(
    storage: Storage, base: State, member: Member, generation: int, *, is_new: bool
) -> State:
    """Write the log, then the store; return the new state."""
    header = replace(base.header, generation=generation)
    draft = Draft(header, base.store_key, member).current()
    key, known = base.log_key(), base.contents.log
    lines, head = key.next_lines(
        storage.read_log(TAIL_BYTES),
        known,
        [Deed(op="restore")],
        generation=generation,
        elsewhere=known.count if is_new and known else 0,
    )
    for line in lines:
        storage.append_log(line)
    contents = replace(base.contents, log=head)
    if draft.rekeyed:
        epoch = LogEpoch(key=key.key, last=head.count)
        contents = replace(contents, log_epochs=(*contents.log_epochs, epoch))
    state, data, check = seal_state(draft.header, contents, draft.store_key)
    storage.put_back(data, check)
    return state


def _look(
    storage: Storage, backup_: State, opener: Opener, pins: Pins | None
) -> _Place:
    """Read what is in the place, and refuse another store."""
    ours = backup_.pin.store_id
    pin = pins.recall(storage.location) if pins else None
    if pin is not None and pin.store_id != ours:
        pin = None
    generation = pin.generation if pin else 0
    current, found = None, True
    try:
        frame = take_apart(storage.read())
    except KeystoreNotFound:
        found = False
    except KeystoreError:
        pass  # damaged: the reason to restore
    else:
        if frame.header.store_id.hex() != ours:
            raise KeystoreExists(
                f"{storage.location} is a different keystore from the backup",
                hint="move it away first, or restore to another path with --keystore",
            )
        try:
            current = _opened(frame, opener)
            generation = max(generation, current[0].header.generation)
            compare(pin, current[0].pin)  # a removed member may have put it there
        except KeystoreError:
            current = None
    log = storage.read_log(TAIL_BYTES)
    generation = max(generation, _told(storage, log, (current or (backup_,))[0]))
    is_new = not (found or log or pin)
    return _Place(generation, current, pin, is_new)


def _told(storage: Storage, log: bytes, state: State) -> int:
    """The generation that the last record of the log in the place names.

    A log that goes on under keys missing from the backup is set aside: it could never
    be checked again.
    """
    try:
        return state.log_key().generation_of(log)
    except TamperedLog:
        storage.set_log_aside()
        return 0


def _revives(there: _Place, backup_: State) -> bool:
    """Whether somebody may have been removed since the backup."""
    if there.is_new:
        return False
    if there.pin is None:
        return True
    length = len(there.pin.chain)
    return backup_.pin.chain[max(0, length - 1) : length] != there.pin.chain[-1:]


def _opened(frame: Frame, opener: Opener) -> tuple[State, Member]:
    member = find_member(frame.header.slots, opener, frame.header.store_id)
    return open_state(frame, member), member
