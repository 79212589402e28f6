"""Seal bytes under a key so that exactly one key opens them.

AES-GCM alone does not commit to its key: one ciphertext can be made to open under
two. Each sealed string therefore carries 32 bytes that depend on the key, compared
before anything is decrypted. docs/spec/keystore-v1.md, section 2;
docs/spec/keystore-v2.md, section 2.
"""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
SALT_BYTES = 32
TAG_BYTES = 16
OVERHEAD_BYTES = 80  # salt, commitment, tag
PREFIX = b"mlguard/keystore/v1/"
PREFIX_2 = b"mlguard/keystore/v2/"  # of what format 1 lacks
NONCE = bytes(12)  # safe: every salt gives a key that is used once


Secret = bytes | bytearray
Readable = bytes | bytearray | memoryview


class NotThisKey(Exception):
    """The commitment is that of another key; stays inside the keystore."""


class Altered(Exception):
    """The key fits, but the data changed; stays inside the keystore."""


def wipe(secret: Secret) -> None:
    """Overwrite what can be overwritten; Python's `bytes` cannot."""
    if isinstance(secret, bytearray):
        secret[:] = bytes(len(secret))


def derive(
    key: Secret,
    label: str,
    *,
    salt: bytes,
    size_bytes: int = 32,
    prefix: bytes = PREFIX,
) -> bytes:
    """Derive bytes for one labelled use of a uniform key.

    Source: RFC 5869, with SHA-512.
    """
    info = prefix + label.encode("ascii")
    return HKDF(SHA512(), size_bytes, salt, info).derive(key)


def seal(key: Secret, label: str, data: Readable, associated: bytes) -> bytes:
    """Encrypt and authenticate data; authenticate the associated data with it."""
    return b"".join(seal_parts(key, label, data, associated))


def seal_parts(
    key: Secret, label: str, data: Readable, associated: bytes
) -> tuple[bytes, bytes, bytes]:
    """Seal as `seal` does, in parts, so that large data is not copied."""
    salt = os.urandom(SALT_BYTES)
    okm = derive(key, label, salt=salt, size_bytes=64)
    return salt, okm[32:], AESGCM(okm[:32]).encrypt(NONCE, data, associated)


def unseal(key: Secret, label: str, sealed: Readable, associated: bytes) -> bytearray:
    """Open what `seal` made, as a buffer that the caller can wipe.

    Raises:
        NotThisKey: It was sealed under another key, or its salt was altered.
        Altered: The ciphertext, tag or associated data changed.
    """
    salt, commitment, ciphertext = bytes(sealed[:32]), sealed[32:64], sealed[64:]
    okm, plain = bytearray(64), bytearray(len(ciphertext) - TAG_BYTES)
    info = PREFIX + label.encode("ascii")
    try:
        HKDF(SHA512(), len(okm), salt, info).derive_into(key, okm)
        # Before decryption: without this, one ciphertext could serve two keys.
        if not hmac.compare_digest(okm[32:], commitment):
            raise NotThisKey
        cipher = AESGCM(memoryview(okm)[:32])
        cipher.decrypt_into(NONCE, ciphertext, associated, plain)
    except InvalidTag:
        raise Altered from None
    finally:
        wipe(okm)
    return plain
