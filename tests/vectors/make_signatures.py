"""Make signatures.json: signature files, one fault each. Imports nothing of mlguard.

Run by hand: python tests/vectors/make_signatures.py. ECDSA draws a random number, so
signatures differ with each run; the file is made once and kept.
"""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

KEY = ec.derive_private_key(int.from_bytes(bytes(range(1, 33))), ec.SECP256R1())
OTHER = ec.derive_private_key(int.from_bytes(bytes(range(2, 34))), ec.SECP256R1())
P384 = ec.derive_private_key(7, ec.SECP384R1())
FILES = {"grant.json": "11" * 32, "manifest.json": "22" * 32, "weights.bin": "33" * 32}
IN_TOTO = "application/vnd.in-toto+json"


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def statement(files=FILES, **changes):
    root = hashlib.sha256(b"".join(bytes.fromhex(h) for _, h in sorted(files.items())))
    resources = [
        {"name": n, "algorithm": "sha256", "digest": h}
        for n, h in sorted(files.items())
    ]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "acme", "digest": {"sha256": root.hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [".git", "model.sig"],
            },
            "resources": resources,
        },
    } | changes


def bundle(text, kind=IN_TOTO, key=KEY, signed=None, **changes):
    signed = text if signed is None else signed
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(signed), signed)
    digest = hashes.SHA384() if key is P384 else hashes.SHA256()
    signature = key.sign(message, ec.ECDSA(digest))
    value = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(pem(key)).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(text).decode(),
            "payloadType": kind,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    } | changes
    return json.dumps(value)


def text(value):
    return json.dumps(value, indent=2).encode()


GOOD = text(statement())
TWICE = statement()["predicate"]
TWICE["resources"] *= 2
SHARDS = statement()["predicate"]
SHARDS["serialization"]["method"] = "shards"
MANY = {f"file{number:03}": "44" * 32 for number in range(65)}
CASES = [
    ("a good signature", bundle(GOOD), "ok"),
    (
        "a good signature without a hint",
        json.dumps(
            json.loads(bundle(GOOD)) | {"verificationMaterial": {"tlogEntries": []}}
        ),
        "ok",
    ),
    ("signed by somebody else", bundle(GOOD, key=OTHER), "SignatureNotTrusted"),
    ("signed by a key on P-384", bundle(GOOD, key=P384), "SignatureNotTrusted"),
    (
        "the hint of the owner on a stranger's signature",
        json.dumps(
            json.loads(bundle(GOOD, key=OTHER))
            | {
                "verificationMaterial": {
                    "publicKey": {"hint": hashlib.sha256(pem(KEY)).hexdigest()}
                }
            }
        ),
        "SignatureNotTrusted",
    ),
    (
        "another payload under the signature",
        bundle(GOOD + b" ", signed=GOOD),
        "SignatureNotTrusted",
    ),
    (
        "another type under the signature",
        bundle(GOOD, kind="application/json"),
        "SignatureNotTrusted",
    ),
    (
        "another media type",
        bundle(GOOD, mediaType="application/json"),
        "SignatureNotTrusted",
    ),
    ("an empty file", "", "SignatureNotTrusted"),
    ("a list", "[]", "SignatureNotTrusted"),
    ("a key twice", bundle(GOOD)[:-1] + ',"mediaType":"x"}', "SignatureNotTrusted"),
    (
        "no signature at all",
        json.dumps(
            json.loads(bundle(GOOD))
            | {
                "dsseEnvelope": {
                    "payload": base64.b64encode(GOOD).decode(),
                    "payloadType": IN_TOTO,
                    "signatures": [],
                }
            }
        ),
        "SignatureNotTrusted",
    ),
    (
        "a file that is not there",
        bundle(text(statement(FILES | {"x": "55" * 32}))),
        "TamperedBundle",
    ),
    (
        "a file that is not signed",
        bundle(text(statement({n: h for n, h in FILES.items() if n != "grant.json"}))),
        "TamperedBundle",
    ),
    (
        "another hash of a file",
        bundle(text(statement(FILES | {"weights.bin": "34" * 32}))),
        "TamperedBundle",
    ),
    (
        "a name that climbs",
        bundle(text(statement(FILES | {"../x": "55" * 32}))),
        "TamperedBundle",
    ),
    (
        "a statement of an older version",
        bundle(text(statement(predicateType="https://model_signing/Digests/v0.1"))),
        "SignatureNotTrusted",
    ),
    (
        "two subjects",
        bundle(text(statement(subject=statement()["subject"] * 2))),
        "SignatureNotTrusted",
    ),
    (
        "a root that is not that of the files",
        bundle(
            text(statement(subject=[{"name": "acme", "digest": {"sha256": "00" * 32}}]))
        ),
        "SignatureNotTrusted",
    ),
    (
        "a file listed twice",
        bundle(text(statement(predicate=TWICE))),
        "SignatureNotTrusted",
    ),
    (
        "hashes of shards",
        bundle(text(statement(predicate=SHARDS))),
        "SignatureNotTrusted",
    ),
    (
        "more files than a signature may list",
        bundle(text(statement(MANY))),
        "SignatureNotTrusted",
    ),
    ("a payload that is not JSON", bundle(b"{"), "SignatureNotTrusted"),
]


if __name__ == "__main__":
    value = {
        "files": FILES,
        "signer": pem(KEY).decode(),
        "cases": [{"comment": c, "file": f, "expect": e} for c, f, e in CASES],
    }
    out = Path(__file__).with_name("signatures.json")
    out.write_text(json.dumps(value, indent=1) + "\n")
