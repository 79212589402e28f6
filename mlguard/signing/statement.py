"""Which files a signature covers: the in-toto statement of OpenSSF Model Signing v1.0.

The statement lists every file by its SHA-256. A file that is missing from the list, or
listed but missing, is refused: both are ways to change a bundle under a valid
signature. docs/spec/signing-v1.md, section 3.
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
    """A statement whose signature was checked.

    Attributes:
        signer: The signer.
        model: The signer's name for the set of files.
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
        signer: The key that signs.
        model: The name of the set.
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
        files: SHA-256 in hex of each file present, by its name, without the signature.
        signers: The trusted signers.
        name: The name of the bundle in a refusal.

    Raises:
        SignatureNotTrusted: The file is not a signature, or not by a trusted signer.
        TamperedBundle: The signature is trusted, but the files were changed.
    """
    envelope = read_envelope(data, name=f"{name}: the signature")
    signer = envelope.open(signers, name=name)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureNotTrusted(f"{name} carries a signature over something else")
    statement = _parse(envelope.payload, signer, name=name)
    for changed in sorted(set(files) | set(statement.files)):
        if files.get(changed) != statement.files.get(changed):
            raise TamperedBundle(
                f"{name}: {changed} was changed after {signer.shown} signed it"
                if changed in statement.files and changed in files
                else f"{name}: {changed} is missing or was added after "
                f"{signer.shown} signed"
            )
    return statement


def _parse(payload: bytes, signer: PublicSigner, *, name: str) -> Statement:
    """Read a statement whose signature was checked."""
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
            f"{name}: the signed text is not a statement about files as defined by "
            "OpenSSF Model Signing v1.0"
        ) from None


def _resource(one: Mapping[str, str]) -> tuple[str, str]:
    if one["algorithm"] != "sha256" or not SHA256.fullmatch(one["digest"]):
        raise ValueError
    return str(one["name"]), one["digest"]


def _root(files: Mapping[str, str], order: Sequence[str] | None = None) -> str:
    """Return the SHA-256 over all digests, in the order of the names."""
    names = sorted(files) if order is None else order
    return hashlib.sha256(b"".join(bytes.fromhex(files[n]) for n in names)).hexdigest()
