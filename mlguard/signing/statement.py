"""Which files a signature covers: the in-toto statement of OpenSSF Model Signing v1.0.

The statement lists every file by its SHA-256. A file that is not listed, or listed and
not there, is refused: both are ways to change a bundle under a good signature.
docs/spec/signing-v1.md, section 3.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlguard.errors import SignatureNotTrusted, TamperedBundle
from mlguard.signing.envelope import read_envelope, read_json, seal_envelope
from mlguard.signing.keys import PublicSigner, Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
IGNORED = (".git", ".gitattributes", ".github", ".gitignore")  # as model-signing does
MAX_FILES = 64
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Statement:
    """A signature that was checked.

    Attributes:
        signer: Who signed.
        model: What the signer called it.
        files: SHA-256 in hex of each file, by name.
    """

    signer: PublicSigner
    model: str
    files: Mapping[str, str]


def sign_files(
    files: Mapping[str, str], signer: Signer, *, model: str, signature: str
) -> bytes:
    """Sign a set of files.

    Args:
        files: SHA-256 in hex of each file, by its name.
        signer: Who signs.
        model: What to call the set.
        signature: The name of the signature file, which cannot cover itself.

    Returns:
        The signature file.
    """
    names = sorted(files)
    resources = [
        {"algorithm": "sha256", "digest": files[name], "name": name} for name in names
    ]
    predicate = {
        "resources": resources,
        "serialization": {
            "allow_symlinks": False,
            "hash_type": "sha256",
            "ignore_paths": sorted([*IGNORED, signature]),
            "method": "files",
        },
    }
    statement = {
        "_type": STATEMENT,
        "predicate": predicate,
        "predicateType": PREDICATE,
        "subject": [{"digest": {"sha256": _root(files)}, "name": model}],
    }
    text = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    return seal_envelope(text, PAYLOAD_TYPE, signer)


def verify_files(
    data: bytes,
    files: Mapping[str, str],
    signers: Sequence[PublicSigner],
    *,
    name: str,
) -> Statement:
    """Check that a trusted signer signed exactly these files.

    Args:
        data: The signature file.
        files: SHA-256 in hex of each file that is there, by its name; without the
            signature itself.
        signers: Whom to trust.
        name: What to call the bundle in a refusal.

    Raises:
        SignatureNotTrusted: The file is no signature, or not of a trusted signer.
        TamperedBundle: It is, and the files are not those that were signed.
    """
    envelope = read_envelope(data, name=f"{name}: the signature")
    signer = envelope.open(signers, name=name)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureNotTrusted(f"{name} carries a signature of something else")
    statement = _parse(envelope.payload, signer, name=name)
    for changed in sorted(set(files) | set(statement.files)):
        if files.get(changed) != statement.files.get(changed):
            raise TamperedBundle(
                f"{name}: {changed} is not what {signer.shown} signed"
                if changed in statement.files and changed in files
                else f"{name}: {changed} is missing or was added after "
                f"{signer.shown} signed"
            )
    return statement


def _parse(payload: bytes, signer: PublicSigner, *, name: str) -> Statement:
    """Read a statement whose signature holds."""
    statement = read_json(payload, name=f"{name}: the signed statement")
    try:
        (subject,) = statement["subject"]
        predicate = statement["predicate"]
        resources = predicate["resources"]
        if (
            (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE)
            or predicate["serialization"]["method"] != "files"
            or not 0 < len(resources) <= MAX_FILES
        ):
            raise ValueError
        files = dict(_resource(one) for one in resources)
        if len(files) != len(resources) or subject["digest"] != {
            "sha256": _root(files, order=[one["name"] for one in resources])
        }:
            raise ValueError
        return Statement(signer, str(subject["name"]), files)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SignatureNotTrusted(
            f"{name}: what was signed is not a statement about files as OpenSSF Model "
            "Signing v1.0 has it"
        ) from None


def _resource(one: Mapping[str, str]) -> tuple[str, str]:
    if one["algorithm"] != "sha256" or not SHA256.fullmatch(one["digest"]):
        raise ValueError
    return str(one["name"]), one["digest"]


def _root(files: Mapping[str, str], order: Sequence[str] | None = None) -> str:
    """SHA-256 over all digests, in the order of the names."""
    names = sorted(files) if order is None else order
    return hashlib.sha256(b"".join(bytes.fromhex(files[n]) for n in names)).hexdigest()
