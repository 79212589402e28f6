"""The key of one file, and the keys that come from it. docs/spec/sealed-tensors-v1.md.

A file key serves one file: with the file's fresh salt, every key derived from it is
used for one content only. Therefore counted nonces are safe.
"""

import hmac
import os
from typing import NoReturn, Protocol, Self

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from mlguard.errors import WrongKey

LABEL = "mlguard/sealed-tensors/v1/"
USE = "sealed-tensors"  # of the model key's subkey
FILE_KEY_BYTES = SALT_BYTES = COMMITMENT_BYTES = 32
ROOT_BYTES = 64  # as many as SHA-512 gives: RFC 5869 asks that of what is expanded


class Subkeys(Protocol):
    """The source of a model's subkeys; `ModelSubkeys` is one."""

    def derive(self, use: str) -> bytes:
        """Return the 32-byte subkey of one use."""


def new_salt() -> bytes:
    """Draw the public salt of one file. Never write two files with one salt."""
    return os.urandom(SALT_BYTES)


class FileKey:
    """The key of one file. It is never pickled, and printing it shows nothing.

    Args:
        secret: 32 bytes; random for an issued file.
        salt: 32 public bytes, fresh for this file.

    Raises:
        ValueError: Secret or salt is not 32 bytes long.
    """

    __slots__ = ("_commitment", "_root")

    def __init__(self, secret: bytes, salt: bytes) -> None:
        if len(secret) != FILE_KEY_BYTES or len(salt) != SALT_BYTES:
            raise ValueError(
                f"a file key is {FILE_KEY_BYTES} bytes and a salt {SALT_BYTES}, "
                f"got {len(secret)} and {len(salt)}"
            )
        size = ROOT_BYTES + COMMITMENT_BYTES
        okm = HKDF(SHA512(), size, salt, (LABEL + "root").encode()).derive(secret)
        self._root, self._commitment = okm[:ROOT_BYTES], okm[ROOT_BYTES:]

    @classmethod
    def of_owner(cls, subkeys: Subkeys, salt: bytes) -> Self:
        """Return the key of an owner's own file, derived from the model key."""
        info = (LABEL + "file-key").encode()
        kdf = HKDF(SHA512(), FILE_KEY_BYTES, salt, info)
        return cls(kdf.derive(subkeys.derive(USE)), salt)

    @property
    def commitment(self) -> bytes:
        """Return 32 public bytes that commit to this key and salt."""
        return self._commitment

    def check(self, commitment: bytes, *, name: str) -> None:
        """Refuse a file that was sealed under another key. Call this before opening it.

        Args:
            commitment: The commitment in the file.
            name: The name of the file in a refusal.

        Raises:
            WrongKey: The commitment is another key's.
        """
        if not hmac.compare_digest(self._commitment, commitment):
            raise WrongKey(f"{name} was not sealed under this key")

    def key(self, label: str) -> bytes:
        """Derive the 32-byte key of one label of this file."""
        info = (LABEL + label).encode()
        return HKDFExpand(SHA512(), 32, info).derive(self._root)

    def __repr__(self) -> str:
        return "FileKey()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a FileKey is never pickled; derive it again")
