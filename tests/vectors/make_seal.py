"""Write seal.json from docs/spec/bundle-v1.md, section 5, alone.

Imports nothing of ours. Both HKDFs are written out plainly, from RFC 5869. Each case is
right, or wrong in one way, and `expect` names the refusal. Run by hand when the
specification gains a case, never to make a failing test pass: `git diff` on the JSON
must show only added lines.
"""

import hashlib
import hmac
import importlib.util
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
COUNTING, ONES = bytes(range(32)), bytes([0x11]) * 32
MODEL_ID, OTHER_ID = bytes(range(16)), bytes([0xFF]) * 16
PREPROCESS = hashlib.sha256(b"a preprocess graph").digest()
OTHER_PREPROCESS = hashlib.sha256(b"another preprocess graph").digest()
SALT = bytes(range(0x80, 0xA0))
MODEL = b"stands for a graph; what is sealed may be any bytes"


def subkey(secret: bytes, protection_id: bytes) -> bytes:
    prk = hmac.digest(protection_id, secret, "sha256")
    return hmac.digest(prk, b"mlguard/v1/bundle/seal\x01", "sha256")


def one_time(secret: bytes, protection_id: bytes, salt: bytes) -> tuple[bytes, bytes]:
    prk = hmac.digest(salt, subkey(secret, protection_id), "sha512")
    okm = hmac.digest(prk, b"mlguard/bundle/v1/model\x01", "sha512")
    return okm[:32], okm[32:]


def associated(protection_id: bytes, preprocess: bytes) -> bytes:
    return b"mlguard.bundle/1\0model.onnx\0" + protection_id + preprocess


def seal(
    model: bytes = MODEL,
    *,
    secret: bytes = COUNTING,
    protection_id: bytes = MODEL_ID,
    preprocess: bytes = PREPROCESS,
    salt: bytes = SALT,
) -> bytes:
    key, commitment = one_time(secret, protection_id, salt)
    ad = associated(protection_id, preprocess)
    return salt + commitment + AESGCM(key).encrypt(bytes(12), model, ad)


def flipped(sealed: bytes, at: int) -> bytes:
    changed = bytearray(sealed)
    changed[at] ^= 1
    return bytes(changed)


def salamander() -> bytes:
    """Sealed under another key, and AES-GCM alone takes it under ours too."""
    path = HERE / "keystore" / "make_keystore.py"
    spec = importlib.util.spec_from_file_location("make_keystore", path)
    assert spec is not None
    assert spec.loader is not None
    kit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kit)
    ad = associated(MODEL_ID, PREPROCESS)
    pairs = [one_time(secret, MODEL_ID, SALT) for secret in (COUNTING, ONES)]
    forged = kit.salamander((pairs[0][0], pairs[1][0]), (ad, ad))
    for key, _ in pairs:  # the forgery is real
        AESGCM(key).decrypt(bytes(12), forged, ad)
    return SALT + pairs[1][1] + bytes(forged)


def case(comment: str, sealed: bytes, expect: str = "success") -> dict[str, str]:
    """A case that is opened with the counting secret beside PREPROCESS."""
    return {
        "comment": comment,
        "secret": COUNTING.hex(),
        "protection_id": MODEL_ID.hex(),
        "preprocess_sha256": PREPROCESS.hex(),
        "sealed": sealed.hex(),
        "expect": expect,
    }


def cases() -> list[dict[str, str]]:
    good, lost, changed = seal(), "WrongKey", "TamperedBundle"
    short = "MalformedBundle"
    return [
        case("a model", good) | {"model": MODEL.hex()},
        case("a model of one byte", seal(b"x")) | {"model": b"x".hex()},
        case("another salt", seal(salt=SALT[::-1])) | {"model": MODEL.hex()},
        case("sealed under another key", seal(secret=ONES), lost),
        case("sealed for another model", seal(protection_id=OTHER_ID), lost),
        case("opens under our key too, but committed to another", salamander(), lost),
        case("first bit of the salt", flipped(good, 0), lost),
        case("last bit of the commitment", flipped(good, 63), lost),
        case("first bit of the ciphertext", flipped(good, 64), changed),
        case("last bit of the tag", flipped(good, -1), changed),
        case("cut by one byte", good[:-1], changed),
        case("longer by one byte", good + b"\0", changed),
        case("beside another graph", seal(preprocess=OTHER_PREPROCESS), changed),
        case("no model in it", seal(b""), short),
        case("empty", b"", short),
    ]


if __name__ == "__main__":
    lines = ",\n".join("  " + json.dumps(each) for each in cases())
    (HERE / "seal.json").write_text(f"[\n{lines}\n]\n")
