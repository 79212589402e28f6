"""An identity: 32 random bytes that open what was made for their recipient.

An identity is a key pair. Its public half is a recipient: a keystore's slot or an
issued bundle made for that recipient opens with the identity. The text form has a
checksum and survives being typed, for recovery sheets.
docs/spec/keystore-v2.md, section 3; for slots of format 1 docs/spec/keystore-v1.md.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from keystore.canonical import Fields
from keystore.errors import IdentityError
from keystore.key_pairs import KeyPairs
from keystore.private_file import Say, read_private, write_private
from keystore.recipient import HYBRID, X25519
from keystore.sealing import KEY_BYTES, Secret, derive, wipe
from keystore.textform import IDENTITY_1, IDENTITY_2, begins_with, from_text, to_text

PREFIXES = {X25519: IDENTITY_1, HYBRID: IDENTITY_2}
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

    Args:
        secret: 32 random bytes.
        pq: Whether the key pair is the hybrid one, MLKEM768-X25519, which is meant to
            resist quantum computers too; X25519 alone if not.

    Example:
        >>> identity = Identity(bytes(32))
        >>> identity
        Identity(id='1119f99a77f7885e')
        >>> Identity.parse(identity.reveal()).id == identity.id
        True
    """

    __slots__ = ("_pairs", "_secret")

    kind = "identity"

    def __init__(self, secret: Secret, *, pq: bool = False) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"an identity is {KEY_BYTES} bytes, got {len(secret)}")
        self._secret = bytearray(secret)
        self._pairs = KeyPairs(secret, HYBRID if pq else X25519)

    @classmethod
    def generate(cls, *, pq: bool = False) -> Self:
        """Draw a new identity from the operating system's random source."""
        return cls(os.urandom(KEY_BYTES), pq=pq)

    @property
    def recipient(self) -> str:
        """The public half, as one line that may be shown to anybody."""
        return self._pairs.recipient.line()

    @property
    def id(self) -> str:
        """Sixteen hex digits that name the identity. Safe to print."""
        return self._pairs.recipient.id

    @property
    def old_id(self) -> str:
        """The id of the identity in a slot of format 1."""
        return derive(self._secret, "identity-id", salt=b"", size_bytes=ID_BYTES).hex()

    def unwrap(self, sealed: bytes, info: bytes) -> bytes:
        """Open what was wrapped for this identity's recipient.

        Args:
            sealed: The bytes that `keystore.wrap` returned.
            info: The same value that `wrap` was given.

        Raises:
            IdentityError: It is for another identity or `info`, or was altered.
        """
        opened = self._pairs.unwrap(sealed, info)
        if opened is None:
            raise IdentityError(
                f"{self} does not open it",
                hint="it is for another identity, or it was altered",
            )
        return opened

    @property
    def kem(self) -> str:
        """The kind of its key pair."""
        return self._pairs.recipient.kem

    def new_lock(self) -> IdentityLock:
        """The public part of a new slot."""
        return IdentityLock(identity_id=self.id)

    def wrapping_key(self, lock: object) -> Secret | None:
        """Return the key for a slot; None if the slot is not this identity's."""
        named = lock.identity_id if isinstance(lock, IdentityLock) else None
        return bytearray(self._secret) if named in (self.id, self.old_id) else None

    def wipe(self) -> None:
        """Overwrite the secret; the identity then opens nothing."""
        wipe(self._secret)

    def reveal(self) -> str:
        """Return the identity itself, as text to write down or print."""
        return to_text(PREFIXES[self._pairs.recipient.kem], bytes(self._secret))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; hyphens, white space and case do not matter.

        Raises:
            IdentityError: Not an identity, or mistyped.
        """
        pq = begins_with(IDENTITY_2, text)
        return cls(from_text(PREFIXES[HYBRID if pq else X25519], text), pq=pq)

    @classmethod
    def read(cls, path: Path, *, say: Say | None = None) -> Self:
        """Read an identity file that only its owner can read.

        Args:
            path: The file.
            say: Called when others can read the file, though it is accepted.

        Raises:
            IdentityError: Missing, a link, open to others, or damaged.
        """
        try:
            return cls.parse(read_private(path, say=say))
        except IdentityError as refusal:
            if str(path) in str(refusal):
                raise
            raise IdentityError(f"{path}: {refusal}", hint=refusal.hint) from None

    def write(self, path: Path) -> None:
        """Write a new identity file, readable by its owner alone.

        Raises:
            IdentityError: Something is already there, or it cannot be written.
        """
        whoever = (
            "mlguard identity: whoever has this file can open the keystores and "
            "bundles made for it"
        )
        comments = [whoever, f"id {self.id}", f"recipient {self.recipient}"]
        write_private(path, self.reveal(), comments=comments)

    def __str__(self) -> str:
        return f"identity {self.id}"

    def __repr__(self) -> str:
        return f"Identity(id={self.id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Identity is never pickled; write it to an identity file")
