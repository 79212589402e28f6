"""Copies of a store, and putting one back.

A backup is the sealed file itself; any slot it had when it was made opens it. A
restored store goes forward, to a generation above all that were seen, so that it is
no step back to anyone. docs/spec/keystore-v1.md, section 9.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from keystore import slots as slot_rules
from keystore.errors import (
    KeystoreError,
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotWritable,
)
from keystore.file_storage import FileStorage
from keystore.header import take_apart
from keystore.log import TAIL_BYTES, LogKey
from keystore.opened import following, naming, open_state, seal_state
from keystore.payload import LogHead
from keystore.pins import Pins
from keystore.slots import Opener
from keystore.storage import Storage
from keystore.store import Keystore, as_storage

FILE_MODE = 0o600
TURN_S = 10.0


def backup(store: Keystore, target: Path) -> str:
    """Copy a store to a new file, and give the SHA-256 of the file.

    Raises:
        KeystoreExists: Something is already at the target.
        KeystoreNotWritable: It could not be written; nothing is left.
        LogNotWritable: The log could not be written; nothing is copied.
    """
    if os.path.lexists(target):
        raise KeystoreExists(f"{target} already exists", hint="choose another path")
    store.tell("backup")
    data = store.sealed()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
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


def restore(
    place: Path | Storage, source: Path, opener: Opener, *, pins: Pins | None = None
) -> tuple[int, int]:
    """Put a backup back, after opening all of it.

    What was in the place is kept beside it.

    Returns:
        The generation of the backup, and the one it has now.

    Raises:
        KeystoreNotFound: There is no backup.
        KeystoreExists: The place holds another store.
        NoSlotOpens: Wrong passphrase or identity for the backup.
        MalformedKeystore: The backup is damaged.
        TamperedKeystore: The backup was altered.
    """
    storage, origin = as_storage(place), FileStorage(source)
    with naming(origin):
        frame = take_apart(origin.read())
        store_id = frame.header.store_id
        key, _ = slot_rules.unwrap(frame.header.slots, opener, store_id=store_id)
        state = open_state(frame, key)
        for name in state.contents.names():
            state.contents.entry(name)
    with storage.turn(TURN_S), naming(storage):
        seen, log_head = _seen(storage, key, state.pin.store_id, pins)
        generation = following(max(seen, frame.header.generation))
        line, head = LogKey(key, store_id).next_line(
            storage.read_log(TAIL_BYTES),
            max(log_head, state.contents.log, key=lambda at: at.count if at else 0),
            op="restore",
            key="",
            version=0,
            generation=generation,
        )
        storage.append_log(line)
        header = replace(frame.header, generation=generation)
        contents = replace(state.contents, log=head)
        restored, data, check = seal_state(header, contents, key)
        storage.put_back(data, check)
    if pins:
        pins.remember(storage.location, restored.pin)
    return frame.header.generation, generation


def _seen(
    storage: Storage, key: bytes, store_id: str, pins: Pins | None
) -> tuple[int, LogHead | None]:
    """How far the store in the place, or the memory of it, had come."""
    generation, log_head = 0, None
    pin = pins.recall(storage.location) if pins else None
    if pin is not None and pin.store_id == store_id:
        generation = pin.generation
    try:
        frame = take_apart(storage.read())
    except KeystoreNotFound:
        return generation, None
    except KeystoreError:
        return generation, None  # damaged: the reason to restore
    if frame.header.store_id.hex() != store_id:
        raise KeystoreExists(
            f"{storage.location} is another keystore than the backup",
            hint="move it away first, or restore to another path with --keystore",
        )
    try:
        log_head = open_state(frame, key).contents.log
    except KeystoreError:
        return generation, None
    return max(generation, frame.header.generation), log_head
