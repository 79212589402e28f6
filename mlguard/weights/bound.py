"""Open a bound file under its key: first its header is authenticated, then tensors.

docs/spec/weights-v1.md, sections 3 and 4.
"""

import hmac
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from mlguard.errors import MalformedWeights, TamperedTensors, WrongKey
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.sealing import FileKey, chunks_of, open_tensor
from mlguard.weights.file import WeightsFile
from mlguard.weights.header import Entry, Header

PREFIX = "mlguard."
VERSION = PREFIX + "weights"
FORMAT = "1"
MAC = PREFIX + "mac"
MAC_LABEL = "weights/header"
NO_MAC = "0" * 64
TAG_DIGITS = 32
# The fields of hex digits, and their lengths; for the tags, a multiple of it.
DIGITS = {
    PREFIX + "protection_id": 32,
    PREFIX + "key_id": 16,
    PREFIX + "salt": 64,
    PREFIX + "commitment": 64,
    PREFIX + "tags": None,
    MAC: 64,
}
NAMES = {VERSION, *DIGITS}
HEX = re.compile(r"[0-9a-f]*")


@dataclass(frozen=True)
class Binding:
    """The fields of a bound file about its key. All of them are public.

    Attributes:
        protection_id: 16 bytes, the salt of this file's subkeys.
        key_id: The public name of the model key.
        salt: 32 bytes.
        commitment: 32 bytes.
        tags: The tags of every tensor's chunks, in their order.
        mac: 32 bytes.
    """

    protection_id: bytes
    key_id: str
    salt: bytes
    commitment: bytes
    tags: tuple[bytes, ...]
    mac: bytes

    @classmethod
    def of(cls, header: Header, *, name: str) -> Self:
        """Read the binding from the header of a bound file.

        Args:
            header: The file's header.
            name: The name of the file in a refusal.

        Raises:
            MalformedWeights: The file is not bound, of a newer format, or damaged.
        """
        metadata = header.metadata
        own = {key for key in metadata if key.startswith(PREFIX)}
        if not is_bound(header):
            raise MalformedWeights(
                f"{name} is a plain .safetensors file and not bound to a key",
                hint="open it with the safetensors library, or bind it first with "
                "`mlguard bind`",
            )
        version = metadata.get(VERSION)
        if version is not None and version != FORMAT and version.isdigit():
            raise MalformedWeights(
                f"{name} is a bound file of format {version[:9]}, newer than this "
                "program",
                hint="update mlguard",
            )
        if own != NAMES or version != FORMAT:
            raise MalformedWeights(
                f"{name}: expected the metadata {sorted(NAMES)}, got {sorted(own)}"
            )
        for key, digits in DIGITS.items():
            value = metadata[key]
            if not HEX.fullmatch(value) or digits not in (None, len(value)):
                raise MalformedWeights(
                    f"{name}: {key} does not have the expected number of hex digits"
                )
        return cls(
            protection_id=bytes.fromhex(metadata[PREFIX + "protection_id"]),
            key_id=metadata[PREFIX + "key_id"],
            salt=bytes.fromhex(metadata[PREFIX + "salt"]),
            commitment=bytes.fromhex(metadata[PREFIX + "commitment"]),
            tags=_tags(metadata[PREFIX + "tags"], header, name=name),
            mac=bytes.fromhex(metadata[MAC]),
        )


class BoundFile:
    """An unlocked bound file, whose header was authenticated.

    Tensors are checked one by one, when they are read.

    Attributes:
        name: The path it was read from.
        entries: Its tensors by name, in the order of their bytes.
        metadata: The owner's metadata, without the fields about the key.
    """

    def __init__(self, file: WeightsFile, key: ModelKey) -> None:
        """Unlock an opened file with its key.

        Raises:
            MalformedWeights: The file does not follow the specification.
            WrongKey: It was bound to another key.
            TamperedTensors: Its header is not what the owner wrote.
        """
        self._file = file
        self.name = file.name
        binding = Binding.of(file.header, name=file.name)
        if binding.key_id != key.key_id:
            raise WrongKey(
                f"{file.name} was bound to key {binding.key_id}, this is key "
                f"{key.key_id}"
            )
        subkeys = key.for_model(binding.protection_id)
        self._key = FileKey.of_owner(subkeys, binding.salt)
        self._key.check(binding.commitment, name=file.name)
        if not hmac.compare_digest(header_mac(self._key, file.raw), binding.mac):
            raise TamperedTensors(
                f"{file.name}: the header was changed after it was written"
            )
        self.entries = file.entries
        self.metadata = {
            key: value
            for key, value in file.header.metadata.items()
            if not key.startswith(PREFIX)
        }
        self._places = _places(file.header, binding.tags)

    def read(self, name: str, into: Any) -> None:
        """Decrypt a tensor into a buffer. Do not read the buffer before this returns.

        Raises:
            TamperedTensors: The tensor was changed or moved.
        """
        entry, (index, tags) = self.entries[name], self._places[name]

        def decrypt(file: BinaryIO) -> None:
            open_tensor(
                self._key, index, entry.header, file, into, tags, name=self.name
            )

        self._file.at(entry, decrypt)

    def close(self) -> None:
        """Close the file. Tensors already read stay valid."""
        self._file.close()


def is_bound(header: Header) -> bool:
    """Whether a header has any field about a key, valid or not."""
    return any(key.startswith(PREFIX) for key in header.metadata)


def header_mac(key: FileKey, raw: bytes) -> bytes:
    """Return the MAC of a header; its own MAC field does not matter.

    Raises:
        TamperedTensors: The field does not appear exactly once.
    """
    needle = f'"{MAC}":"'.encode()
    at = raw.find(needle) + len(needle)
    if raw.count(needle) != 1:
        raise TamperedTensors(f"the header has {raw.count(needle)} MACs, expected one")
    zeroed = raw[:at] + NO_MAC.encode() + raw[at + len(NO_MAC) :]
    return hmac.digest(key.key(MAC_LABEL), zeroed, "sha256")


def bound_metadata(
    subkeys: ModelSubkeys, salt: bytes, key: FileKey, tags: bytes
) -> dict[str, str]:
    """Return the metadata of a bound file, with a MAC of zeros."""
    return {
        VERSION: FORMAT,
        PREFIX + "protection_id": subkeys.protection_id.hex(),
        PREFIX + "key_id": subkeys.key_id,
        PREFIX + "salt": salt.hex(),
        PREFIX + "commitment": key.commitment.hex(),
        PREFIX + "tags": tags.hex(),
        MAC: NO_MAC,
    }


def tag_count(entries: tuple[Entry, ...]) -> int:
    """Return how many tags the tensors have together."""
    return sum(chunks_of(one.size_bytes) for one in entries)


def _tags(digits: str, header: Header, *, name: str) -> tuple[bytes, ...]:
    expected = tag_count(header.entries)
    if len(digits) != TAG_DIGITS * expected:
        raise MalformedWeights(f"{name}: expected {expected} tags")
    return tuple(
        bytes.fromhex(digits[i : i + TAG_DIGITS])
        for i in range(0, len(digits), TAG_DIGITS)
    )


def _places(
    header: Header, tags: tuple[bytes, ...]
) -> dict[str, tuple[int, tuple[bytes, ...]]]:
    """Return the number and the tags of every tensor, by its name."""
    found, at = {}, 0
    for index, one in enumerate(header.entries):
        stop = at + chunks_of(one.size_bytes)
        found[one.name] = index, tags[at:stop]
        at = stop
    return found
