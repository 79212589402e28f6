"""The secrets that open one file, and their wrapping. docs/spec/grants-v1.md, 2."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol, runtime_checkable

from mlguard.canonical import canonical
from mlguard.errors import MalformedBundle, WrongKey

KEY_BYTES = 32
MAX_USES = 1024


@runtime_checkable
class Unwraps(Protocol):
    """The private side of a recipient: it unwraps. An identity is one."""

    @property
    def recipient(self) -> str:
        """The public line of the recipient."""

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """Unwrap; refuse bytes for another recipient or under another `info`."""


class Recipient(Protocol):
    """The public side of a recipient: it wraps."""

    @property
    def recipient(self) -> str:
        """The public line of the recipient."""

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """Wrap for this recipient, bound to `info`."""


@dataclass(frozen=True)
class Secrets:
    """The secrets in a grant: the key of one file, and only the subkeys that it needs.

    It stands in for the model's subkeys where an issued file is opened: its holder can
    derive what this file uses and nothing else of the owner's.

    Attributes:
        protection_id: The protected model's public identifier, 16 bytes.
        key_id: The public name of the owner's key.
        content_key: The 32-byte key of the file.
        subkeys: 32 bytes for each use in the file.
    """

    protection_id: bytes
    key_id: str
    content_key: bytes = field(repr=False)
    subkeys: Mapping[str, bytes] = field(repr=False)

    def derive(self, use: str) -> bytes:
        """Return the 32-byte subkey of one use.

        Raises:
            WrongKey: The grant does not cover it.
        """
        if use not in self.subkeys:
            raise WrongKey(f"the grant does not cover {use!r}")
        return self.subkeys[use]

    def to_bytes(self) -> bytes:
        """Return the bytes that are wrapped."""
        subkeys = {use: key.hex() for use, key in self.subkeys.items()}
        return canonical({"content_key": self.content_key.hex(), "subkeys": subkeys})

    @classmethod
    def from_bytes(
        cls, data: bytes, *, protection_id: bytes, key_id: str, name: str
    ) -> "Secrets":
        """Read the unwrapped bytes.

        Raises:
            MalformedBundle: They do not follow the specification.
        """
        try:
            value = json.loads(data.decode())
            if canonical(value) != data or set(value) != {"content_key", "subkeys"}:
                raise ValueError
            uses = value["subkeys"]
            if len(uses) > MAX_USES:
                raise ValueError
            keys = {str(use): _key(text) for use, text in uses.items()}
            content = _key(value["content_key"])
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise MalformedBundle(
                f"{name} does not hold the keys of a bundle"
            ) from None
        return cls(protection_id, key_id, content, keys)

    def __reduce__(self) -> NoReturn:
        raise TypeError("Secrets are never pickled; unwrap the grant again")


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError("not 32 bytes")
    return key
