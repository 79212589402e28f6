"""Remember, outside the store, how far each store had come.

An older copy put back in place is authentic in itself; only a memory tells. A pin is
read before the store and written after it, so that a writer at work is no alarm.
docs/spec/keystore-v1.md, section 9.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from keystore.canonical import Fields, decode, encode
from keystore.errors import MalformedKeystore, RolledBackKeystore
from keystore.header import MAX_GENERATION, STORE_ID_BYTES

FIELDS = ("checksum", "generation", "location", "store_id")
MAX_PIN_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A state of a store that was seen and authenticated."""

    store_id: str
    generation: int
    checksum: str


class Pins:
    """A folder with a small file for each store.

    Args:
        folder: Where to keep them; made when first needed. Not the store's folder:
            who can put an old store back could put an old pin back as well.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, location: str) -> Pin | None:
        """What was last seen at a place, or None.

        Raises:
            RolledBackKeystore: The pin itself was damaged.
        """
        path = self._path(location)
        try:
            data = path.read_bytes()[: MAX_PIN_BYTES + 1]
        except OSError:
            return None
        try:
            fields = Fields(decode(data, "the pin"), "the pin", FIELDS)
            return Pin(
                store_id=fields.octets(
                    "store_id", STORE_ID_BYTES, STORE_ID_BYTES
                ).hex(),
                generation=fields.integer("generation", 1, MAX_GENERATION),
                checksum=fields.octets("checksum", 32, 32).hex(),
            )
        except MalformedKeystore as refusal:
            raise RolledBackKeystore(f"{path}: {refusal}") from None

    def remember(self, location: str, pin: Pin) -> bool:
        """Write a pin. False if the folder is not writable: then nothing is pinned."""
        path = self._path(location)
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
        data = encode(
            {
                "checksum": pin.checksum,
                "generation": pin.generation,
                "location": location,
                "store_id": pin.store_id,
            }
        )
        try:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return False
        return True

    def _path(self, location: str) -> Path:
        digest = hashlib.sha256(location.encode("utf-8", "surrogateescape"))
        return self._folder / f"{digest.hexdigest()[:32]}.pin"


def compare(pin: Pin | None, now: Pin) -> None:
    """Refuse a state that cannot have followed the pinned one.

    Raises:
        RolledBackKeystore: Another store, an older state, or another state of the
            same generation.
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
