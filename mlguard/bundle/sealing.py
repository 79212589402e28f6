"""Seal the model of a bundle under a subkey, so that exactly one key opens it.

The construction is the keystore's, but the module is not: a program that runs a bundle
has no keystore, and the runtime must not load one. AES-GCM alone does not commit to its
key: one ciphertext can be made to open under two. The sealed string therefore carries
32 bytes that depend on the key, compared before anything is decrypted. The
specification is docs/spec/bundle-v1.md, section 5.
"""

import hmac
import io
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mlguard.errors import MalformedBundle, TamperedBundle, WrongKey
from mlguard.keys import ModelSubkeys

SUITE: Final = "hkdf-sha512+aes-256-gcm"
USE = "bundle/seal"  # of the subkey
INFO = b"mlguard/bundle/v1/model"
ASSOCIATED = b"mlguard.bundle/1\0model.onnx\0"
SALT_BYTES, COMMITMENT_BYTES, TAG_BYTES = 32, 32, 16
OVERHEAD_BYTES = SALT_BYTES + COMMITMENT_BYTES + TAG_BYTES
CHUNK_BYTES = 1 << 20  # encrypted at a time
NONCE = bytes(12)  # safe: every salt gives a key that is used once


def seal(model: bytes, subkeys: ModelSubkeys, *, preprocess_sha256: str) -> bytes:
    """Encrypt and authenticate a model.

    Args:
        model: The model as ONNX.
        subkeys: The subkeys of the protected model.
        preprocess_sha256: SHA-256 of the preprocess graph that belongs to it, hex.

    Returns:
        Salt, commitment and ciphertext: OVERHEAD_BYTES more than the model.
    """
    salt = os.urandom(SALT_BYTES)
    one_time, commitment = _derive(subkeys, salt)
    associated = _associated(subkeys, preprocess_sha256)
    encryptor = Cipher(AES256(one_time), GCM(NONCE)).encryptor()
    encryptor.authenticate_additional_data(associated)
    sealed = io.BytesIO()  # grows in place: the model is not there a third time
    sealed.write(salt + commitment)
    plain = memoryview(model)
    for start in range(0, len(plain), CHUNK_BYTES):
        sealed.write(encryptor.update(plain[start : start + CHUNK_BYTES]))
    sealed.write(encryptor.finalize() + encryptor.tag)
    return sealed.getvalue()


def unseal(
    sealed: bytes, subkeys: ModelSubkeys, *, preprocess_sha256: str, name: str
) -> bytes:
    """Open what `seal` made, in memory.

    Args:
        sealed: The bytes that `seal` returned.
        subkeys: The subkeys of the protected model.
        preprocess_sha256: SHA-256 of the preprocess graph in the same bundle, hex.
        name: The name of the model in a refusal.

    Raises:
        MalformedBundle: It is shorter than any sealed model.
        WrongKey: It was sealed under another key or protection id, or its first bytes
            were changed.
        TamperedBundle: The key fits, but the model was changed, or sealed for another
            preprocess graph.
    """
    if len(sealed) <= OVERHEAD_BYTES:
        raise MalformedBundle(
            f"{name} has {len(sealed)} bytes, expected more than {OVERHEAD_BYTES}"
        )
    parts = memoryview(sealed)
    start = SALT_BYTES + COMMITMENT_BYTES
    one_time, commitment = _derive(subkeys, bytes(parts[:SALT_BYTES]))
    # Before decryption: without this, one ciphertext could serve two keys.
    if not hmac.compare_digest(commitment, bytes(parts[SALT_BYTES:start])):
        raise WrongKey(f"{name} was not sealed under key {subkeys.key_id}")
    associated = _associated(subkeys, preprocess_sha256)
    try:
        return AESGCM(one_time).decrypt(NONCE, parts[start:], associated)
    except InvalidTag:
        raise TamperedBundle(f"{name} was changed after it was sealed") from None


def _derive(subkeys: ModelSubkeys, salt: bytes) -> tuple[bytes, bytes]:
    """Return the one-time key, and its commitment."""
    okm = HKDF(SHA512(), 64, salt, INFO).derive(subkeys.derive(USE))
    return okm[:32], okm[32:]


def _associated(subkeys: ModelSubkeys, preprocess_sha256: str) -> bytes:
    return ASSOCIATED + subkeys.protection_id + bytes.fromhex(preprocess_sha256)
