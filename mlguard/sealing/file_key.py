"""The key of one file, and the keys that come from it. docs/spec/sealed-tensors-v1.md.

A file key serves one file: with the file's fresh salt, every key derived from it is
used for one content only. That is what makes counting nonces safe.
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
    """Whatever gives the subkeys of a model; `ModelSubkeys` is one."""

    def derive(self, use: str) -> bytes:
        """The 32-byte subkey of one use."""


def new_salt() -> bytes:
    """Draw the public salt of one file. Never write two files with one salt."""
    return os.urandom(SALT_BYTES)


class FileKey:
    """The key of one file. It is never pickled, and shows nothing when printed.

    Args:
        secret: 32 bytes; of an issued file random ones.
        salt: 32 public bytes, fresh for this file.

    Raises:
        ValueError: One of them is not 32 bytes.
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
        """The key of a file that the owner of a model key keeps for himself."""
        info = (LABEL + "file-key").encode()
        kdf = HKDF(SHA512(), FILE_KEY_BYTES, salt, info)
        return cls(kdf.derive(subkeys.derive(USE)), salt)

    @property
    def commitment(self) -> bytes:
        """32 public bytes that only this key and salt give."""
        return self._commitment

    def check(self, commitment: bytes, *, name: str) -> None:
        """Refuse a file that was sealed under another key. Call it before opening.

        Args:
            commitment: What the file says.
            name: What to call the file in a refusal.

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
