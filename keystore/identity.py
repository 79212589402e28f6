"""An identity: 32 random bytes that open a store without anyone typing.

Made for CI and for recovery sheets, so the text form has a checksum and survives
being typed. docs/spec/keystore-v1.md, section 4.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from keystore.canonical import Fields
from keystore.errors import IdentityError
from keystore.private_file import read_private, write_private
from keystore.sealing import KEY_BYTES, derive
from keystore.textform import from_text, to_text

PREFIX = "MLGUARD-IDENTITY-1-"
FIELDS = ("identity_id",)
ID_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class IdentityLock:
    """The public part of an identity slot."""

    identity_id: str
    kind = "identity"

    def fields(self) -> dict[str, object]:
        """The fields as the header writes them."""
        return {"identity_id": self.identity_id}

    @classmethod
    def read(cls, fields: Fields) -> "IdentityLock":
        """Read the fields.

        Raises:
            MalformedKeystore: A field is not as the specification says.
        """
        return cls(identity_id=fields.octets("identity_id", ID_BYTES, ID_BYTES).hex())


class Identity:
    """The secret in an identity file.

    Example:
        >>> identity = Identity(bytes(32))
        >>> identity
        Identity(id='b2bcc6371ccd2d92')
        >>> Identity.parse(identity.reveal()).id == identity.id
        True
    """

    __slots__ = ("_secret",)

    kind = "identity"

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"an identity is {KEY_BYTES} bytes, got {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> Self:
        """Draw a new identity from the operating system's random source."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def id(self) -> str:
        """Sixteen hex digits that name the identity. Safe to print."""
        return derive(self._secret, "identity-id", salt=b"", size_bytes=ID_BYTES).hex()

    def new_lock(self) -> IdentityLock:
        """The public part of a new slot."""
        return IdentityLock(identity_id=self.id)

    def wrapping_key(self, lock: object) -> bytes | None:
        """The key for a slot; None if the slot is not this identity's."""
        ours = isinstance(lock, IdentityLock) and lock.identity_id == self.id
        return self._secret if ours else None

    def reveal(self) -> str:
        """The identity itself, as text to write down or print."""
        return to_text(PREFIX, self._secret)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; hyphens, white space and case do not matter.

        Raises:
            IdentityError: Not an identity, or mistyped.
        """
        return cls(from_text(PREFIX, text))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an identity file that only its owner can read.

        Raises:
            IdentityError: Missing, a link, open to others, or damaged.
        """
        try:
            return cls.parse(read_private(path))
        except IdentityError as refusal:
            if str(path) in str(refusal):
                raise
            raise IdentityError(f"{path}: {refusal}", hint=refusal.hint) from None

    def write(self, path: Path) -> None:
        """Write a new identity file, readable by its owner alone.

        Raises:
            IdentityError: Something is already there, or it cannot be written.
        """
        whoever = "mlguard identity: whoever has this file can open the keystore"
        write_private(path, self.reveal(), comments=[whoever, f"id {self.id}"])

    def __str__(self) -> str:
        return f"identity {self.id}"

    def __repr__(self) -> str:
        return f"Identity(id={self.id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Identity is never pickled; write it to an identity file")
