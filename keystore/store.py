"""The keystore: named, versioned secrets in one sealed place.

How a store is made and opened; what can be done with it then is in `handle`,
`key_verbs` and `slot_verbs`. Knows nothing of models. docs/spec/keystore-v1.md.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Self

from keystore import slots as slot_rules
from keystore.errors import KeystoreError, KeystoreExists, KeystoreNotFound
from keystore.file_storage import FileStorage
from keystore.header import STORE_ID_BYTES, Header, take_apart
from keystore.key_verbs import KeyVerbs
from keystore.log import LogKey
from keystore.opened import OpenStore, naming, open_state, seal_state
from keystore.payload import Contents
from keystore.pins import Pins, compare
from keystore.sealing import KEY_BYTES
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
