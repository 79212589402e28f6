"""Pins: the newest state of each store that was seen, kept outside the store.

An older copy put back in place is authentic in itself; only a memory of the newer one
gives it away. A pin is read before the store and written after it, so that a concurrent
writer raises no alarm. docs/spec/keystore-v1.md, section 9; docs/spec/keystore-v2.md,
section 4.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keystore.canonical import MAX_INTEGER, Fields, decode, encode
from keystore.errors import MalformedKeystore, RolledBackKeystore
from keystore.header import STORE_ID_BYTES
from keystore.system import CLOEXEC, NOFOLLOW

OLD_FIELDS = ("checksum", "generation", "location", "store_id")
FIELDS = (*OLD_FIELDS, "chain", "elsewhere")
CHAIN_FIELDS = ("count", "head")
MAX_PIN_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A state of a store that was seen and authenticated.

    Attributes:
        chain: The digests of the links of its chain; none in format 1. In a pin that
            was read, all but the last are empty.
        elsewhere: How many records of its log are not in this place.
    """

    store_id: str
    generation: int
    checksum: str
    chain: tuple[str, ...] = ()
    elsewhere: int = 0


class Pins:
    """A folder with a small file for each store.

    Args:
        folder: Where to keep them; made when first needed. Not the store's folder:
            whoever can put an old store back there could put an old pin back as well.
        more: Folders where pins may be as well; they are read and never written.
    """

    def __init__(self, folder: Path, *, more: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._folders = (folder, *more)

    def recall(self, location: str) -> Pin | None:
        """Return the newest state that was seen at a place, or None.

        Raises:
            RolledBackKeystore: A pin is damaged, or cannot be read.
        """
        paths = [_path_in(folder, location) for folder in self._folders]
        pins = [pin for pin in map(_read, paths) if pin is not None]
        return max(pins, key=lambda pin: pin.generation, default=None)

    def remember(self, location: str, pin: Pin) -> bool:
        """Write a pin. Return False, and pin nothing, if the folder is not writable."""
        path = _path_in(self._folder, location)
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
        chain = {"count": len(pin.chain), "head": pin.chain[-1]} if pin.chain else None
        data = encode(
            {
                "chain": chain,
                "checksum": pin.checksum,
                "elsewhere": pin.elsewhere,
                "generation": pin.generation,
                "location": location,
                "store_id": pin.store_id,
            }
        )
        try:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return False
        return True


def compare(pin: Pin | None, now: Pin) -> None:
    """Refuse a state that cannot have followed the pinned one.

    Raises:
        RolledBackKeystore: A different store, an older state, a different state of the
            same generation, or one whose slots have a different history.
    """
    if pin is None:
        return
    if now.store_id != pin.store_id:
        raise RolledBackKeystore(
            f"another keystore was put in its place: expected {pin.store_id[:8]}…, "
            f"found {now.store_id[:8]}…"
        )
    if now.generation < pin.generation:
        raise RolledBackKeystore(
            f"it went back from generation {pin.generation} to {now.generation}"
        )
    if now.generation == pin.generation and now.checksum != pin.checksum:
        raise RolledBackKeystore(
            f"generation {now.generation} is not the one that was seen before"
        )
    length = len(pin.chain)
    if length and now.chain[length - 1 : length] != pin.chain[-1:]:
        raise RolledBackKeystore(
            "its slots have a different history from the one that was seen before: a "
            "removed member may have written it"
        )


def _read(path: Path) -> Pin | None:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PIN_BYTES + 1)
    except OSError as error:
        if not _there(path):
            return None
        raise RolledBackKeystore(
            f"{path}: the pin of the keystore cannot be read: {error.strerror}",
            hint="make the file readable; if that is not possible, remove it, and "
            "look through `mlguard keys log` for records you do not know",
        ) from None
    try:
        value = decode(data, "the pin")
        old = isinstance(value, dict) and "chain" not in value
        fields = Fields(value, "the pin", OLD_FIELDS if old else FIELDS)
        return Pin(
            store_id=fields.octets("store_id", STORE_ID_BYTES, STORE_ID_BYTES).hex(),
            generation=fields.integer("generation", 1, MAX_INTEGER),
            checksum=fields.octets("checksum", 32, 32).hex(),
            chain=() if old else _read_chain(fields.raw("chain")),
            elsewhere=0 if old else fields.integer("elsewhere", 0, MAX_INTEGER),
        )
    except MalformedKeystore as refusal:
        raise RolledBackKeystore(f"{path}: {refusal}") from None


def _read_chain(item: object) -> tuple[str, ...]:
    if item is None:
        return ()
    fields = Fields(item, "the pin's chain", CHAIN_FIELDS)
    count = fields.integer("count", 1, 10_000)
    return (*[""] * (count - 1), fields.octets("head", 32, 32).hex())


def _there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except OSError:
        return False


def _path_in(folder: Path, location: str) -> Path:
    digest = hashlib.sha256(location.encode("utf-8", "surrogateescape"))
    return folder / f"{digest.hexdigest()[:32]}.pin"
