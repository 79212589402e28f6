"""An identity: 32 random bytes that open a store without anyone typing.

Made for CI and for recovery sheets, so the text form has a checksum and survives
being typed. docs/spec/keystore-v1.md, section 4.
"""

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from keystore.canonical import Fields
from keystore.errors import IdentityError
from keystore.sealing import KEY_BYTES, derive

PREFIX = "MLGUARD-IDENTITY-1-"
CHECKSUM_LABEL = b"mlguard identity 1"
CHECKSUM_BYTES = 3
TEXT_CHARACTERS = 56
MAX_FILE_BYTES = 4096  # an identity file is a few lines; more is some other file

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
        body = base64.b32encode(self._secret + _checksum(self._secret)).decode("ascii")
        groups = [body[i : i + 4] for i in range(0, TEXT_CHARACTERS, 4)]
        return PREFIX + "-".join(groups)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; hyphens, white space and case do not matter.

        Raises:
            IdentityError: Not an identity, or mistyped.
        """
        plain = "".join(text.split()).replace("-", "").upper()
        marker = PREFIX.replace("-", "")
        body = plain.removeprefix(marker)
        if body == plain or len(body) != TEXT_CHARACTERS:
            raise IdentityError(
                f"not an identity: expected {PREFIX} and {TEXT_CHARACTERS} characters"
            )
        try:
            data = base64.b32decode(body)
        except (binascii.Error, ValueError):
            raise IdentityError("not an identity: not base32") from None
        if _checksum(data[:KEY_BYTES]) != data[KEY_BYTES:]:
            raise IdentityError(
                "the identity's checksum does not fit",
                hint="a character may be mistyped or missing",
            )
        return cls(data[:KEY_BYTES])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an identity file that only its owner can read.

        Raises:
            IdentityError: Missing, a link, open to others, or damaged.
        """
        text = _read_private(path)
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        if len(lines) != 1:
            raise IdentityError(
                f"expected one identity in {path}, found {len(lines)} lines"
            )
        try:
            return cls.parse(lines[0])
        except IdentityError as refusal:
            raise IdentityError(f"{path}: {refusal}", hint=refusal.hint) from None

    def write(self, path: Path) -> None:
        """Write a new identity file, readable by its owner alone.

        Raises:
            IdentityError: Something is already there, or it cannot be written.
        """
        text = (
            "# mlguard identity: whoever has this file can open the keystore\n"
            f"# id {self.id}\n{self.reveal()}\n"
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            raise IdentityError(
                f"{path} already exists; it is never overwritten"
            ) from None
        except OSError as error:
            raise IdentityError(f"cannot write {path}: {error.strerror}") from None
        try:
            with open(descriptor, "wb") as file:
                file.write(text.encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise IdentityError(f"cannot write {path}: {error.strerror}") from None

    def __str__(self) -> str:
        return f"identity {self.id}"

    def __repr__(self) -> str:
        return f"Identity(id={self.id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Identity is never pickled; write it to an identity file")


def _checksum(secret: bytes) -> bytes:
    return hashlib.sha256(CHECKSUM_LABEL + secret).digest()[:CHECKSUM_BYTES]


def _read_private(path: Path) -> str:
    # O_NONBLOCK: a named pipe at the path must not make us wait.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise IdentityError(f"there is no identity file at {path}") from None
    except OSError as error:
        if path.is_symlink():
            raise IdentityError(
                f"{path} is a symbolic link", hint="name the file itself"
            ) from None
        raise IdentityError(f"cannot read {path}: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        _check_private(path, os.fstat(descriptor))
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise IdentityError(f"{path} is too long for an identity file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise IdentityError(f"{path} is not text") from None


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise IdentityError(f"{path} is not a regular file")
    if found.st_uid not in (os.geteuid(), 0):
        raise IdentityError(f"{path} belongs to another user")
    if found.st_mode & 0o077:
        raise IdentityError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"`chmod 600 {path}`, and think about who may have read it",
        )
