"""The keystore: named, versioned secrets in one sealed place.

This module makes and opens a store; the actions on an open one are in `handle`,
`key_verbs` and `slot_verbs`. It knows nothing of models. docs/spec/keystore-v2.md.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Self

from keystore.draft import first_draft
from keystore.errors import KeystoreError, KeystoreExists, KeystoreNotFound
from keystore.file_storage import FileStorage
from keystore.header import STORE_ID_BYTES, take_apart
from keystore.key_verbs import KeyVerbs
from keystore.log import TAIL_BYTES, Deed, LogKey
from keystore.members import find_member
from keystore.opened import OpenStore, Say, State, naming, open_state, seal_state
from keystore.payload import Contents
from keystore.pins import Pins, compare
from keystore.slot_verbs import SlotVerbs
from keystore.slots import Opener
from keystore.storage import Storage


class Keystore(KeyVerbs, SlotVerbs):
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

    @classmethod
    def create(
        cls,
        place: Path | Storage,
        opener: Opener,
        *,
        label: str | None = None,
        pins: Pins | None = None,
        say: Say | None = None,
    ) -> Self:
        """Make an empty keystore with one slot.

        Args:
            place: Where to put it; a missing folder is made.
            opener: The passphrase or identity that will open it.
            label: A name for its slot; the opener's kind if none is given.
            pins: Where to remember the newest state of the store.
            say: Called with what the user should know and need not decide.

        Raises:
            KeystoreExists: Something is already there.
            KeystoreNotWritable: It could not be saved.
        """
        storage = as_storage(place)
        store_id = os.urandom(STORE_ID_BYTES)
        draft = first_draft(opener, label or opener.kind, store_id)
        with storage.turn(10), naming(storage):
            _refuse_existing(storage)
            storage.set_log_aside()
            lines, head = LogKey(draft.store_key, store_id).next_lines(
                b"", None, [Deed(op="create")], generation=1
            )
            for line in lines:
                storage.append_log(line)
            contents = replace(Contents.empty(), log=head)
            state, data, check = seal_state(draft.header, contents, draft.store_key)
            storage.swap(None, data, check)
        return cls(OpenStore(storage, draft.member, state, pins, say=say))

    @classmethod
    def open(
        cls,
        place: Path | Storage,
        opener: Opener,
        *,
        pins: Pins | None = None,
        accept: bool = False,
        say: Say | None = None,
    ) -> Self:
        """Open an existing keystore.

        Args:
            place: Where it is.
            opener: A passphrase or identity that opens it.
            pins: The states seen before; a store that went back is refused.
            accept: Take the store as it is now, whatever the pins say.
            say: Called with what the user should know and need not decide.

        Raises:
            KeystoreNotFound: There is none.
            KeystoreNotReadable: There is something, but it cannot be read.
            MalformedKeystore: It is damaged, or not a keystore.
            WorkFactorTooHigh: It asks for more work than we allow; none was done.
            NoSlotOpens: Wrong passphrase or identity.
            TamperedKeystore: The opener fits, but the store was altered.
            RolledBackKeystore: It is older than the one seen before, or a different
                one, or its slots have a different history.
        """
        storage = as_storage(place)
        with naming(storage):
            # Before the store: a concurrent writer must not look like a rollback.
            pin = pins.recall(storage.location) if pins and not accept else None
            first = pins is not None and not pin and not accept
            frame = take_apart(storage.read())
            header = frame.header
            member = find_member(header.slots, opener, header.store_id)
            state = open_state(frame, member)
            compare(pin, state.pin)
            if say and (doubts := storage.doubts()):
                say(f"{storage.location}: {' and '.join(doubts)}")
            elsewhere = pin.elsewhere if pin else 0
            if first:
                elsewhere = _first_seen(storage, state, say)
        opened = OpenStore(storage, member, state, pins, elsewhere=elsewhere, say=say)
        if accept:
            opened.accept_log()
        return cls(opened)


def as_storage(place: Path | Storage) -> Storage:
    """Return the storage at a place; a path is a file."""
    return place if isinstance(place, Storage) else FileStorage(place)


def _refuse_existing(storage: Storage) -> None:
    try:
        storage.read()
    except KeystoreNotFound:
        return
    except KeystoreError:
        pass  # whatever it is, it is there
    raise KeystoreExists(f"{storage.location} already exists")


def _first_seen(storage: Storage, state: State, say: Say | None) -> int:
    """Say that the store was never seen; return how many records are elsewhere."""
    if say and state.header.generation > 1:
        say(
            f"{storage.location} was not seen from here before: an older copy could "
            "not be noticed this time"
        )
    head = state.contents.log
    return head.count if head and not storage.read_log(TAIL_BYTES) else 0
