"""The proofs that a key gives about a bundle: commitment, manifest MAC and self-test.

All three are HMACs under subkeys of the 256-bit model key. A digest that anyone could
compute would allow guessing in a small key space; the smallest, the mask of `np` at M =
2, has 924 values. The specification is docs/spec/bundle-v1.md, section 3.
"""

import hashlib
import hmac

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle.manifest import Manifest
from mlguard.errors import TamperedBundle, WrongKey
from mlguard.keys import ModelKey, ModelSubkeys

COMMITMENT = "bundle/commitment"
MANIFEST_MAC = "bundle/manifest"
SELFTEST = "bundle/selftest"
SELFTEST_SEED = b"mlguard/v1/selftest-image"


def commitment(subkeys: ModelSubkeys, model_sha256: bytes) -> str:
    """Return the 256-bit commitment of a key to a model as stored, in hex."""
    return _hmac(subkeys, COMMITMENT, model_sha256)


def manifest_mac(subkeys: ModelSubkeys, manifest: Manifest) -> str:
    """Return the MAC of a manifest without its field `mac`, in hex."""
    return _hmac(subkeys, MANIFEST_MAC, manifest.to_bytes(without_mac=True))


def selftest_image(block_size: int) -> NDArray[np.uint8]:
    """Return the public test image: 2 × 3 blocks of noise, the same for everyone.

    Shape:
        returns  (1, 3, 2M, 3M) uint8
    """
    shape = (1, 3, 2 * block_size, 3 * block_size)
    noise = hashlib.shake_256(SELFTEST_SEED).digest(int(np.prod(shape)))
    return np.frombuffer(noise, dtype=np.uint8).reshape(shape)


def selftest_digest(subkeys: ModelSubkeys, values: NDArray[np.int32]) -> str:
    """Return the MAC of the transformed test image, in hex.

    Args:
        subkeys: The subkeys of the protected model.
        values: The transform's integers before any division.

    Shape:
        values  (1, 3, 2M, 3M) int32
    """
    return _hmac(subkeys, SELFTEST, values.astype("<i4").tobytes())


def check_key(manifest: Manifest, key: ModelKey, *, name: str) -> ModelSubkeys:
    """Refuse a key that the bundle was not made for, and a manifest made without it.

    Args:
        manifest: The manifest of the bundle.
        key: The model key.
        name: The name of the bundle in a refusal.

    Returns:
        The key's subkeys for this model.

    Raises:
        WrongKey: The key ids differ; both are named.
        TamperedBundle: The key is correct, but the file was changed since.
    """
    if key.key_id != manifest.key_id:
        raise WrongKey(
            f"{name} was made for key {manifest.key_id}, got key {key.key_id}"
        )
    subkeys = key.for_model(bytes.fromhex(manifest.protection_id))
    model_sha256 = bytes.fromhex(manifest.files[manifest.model_member].sha256)
    expected = commitment(subkeys, model_sha256)
    if not hmac.compare_digest(expected, manifest.key_commitment):
        raise TamperedBundle(f"{name}: its key commitment does not match the key")
    if not hmac.compare_digest(manifest_mac(subkeys, manifest), manifest.mac):
        raise TamperedBundle(f"{name}: manifest.json was changed after it was written")
    return subkeys


def _hmac(subkeys: ModelSubkeys, use: str, message: bytes) -> str:
    return hmac.new(subkeys.derive(use), message, hashlib.sha256).hexdigest()
