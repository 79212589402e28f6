"""Verify the signature of a bundle, over every byte of it."""

import hashlib
from collections.abc import Sequence
from typing import BinaryIO

from mlguard.bundle import Bundle2
from mlguard.errors import MalformedBundle, SignatureNotTrusted
from mlguard.signing import PublicSigner, Statement, verify_files

PIECE_BYTES = 1 << 20


def verify_bundle(bundle: Bundle2, signers: Sequence[PublicSigner]) -> Statement:
    """Return the trusted signer who signed a bundle exactly as it is.

    The whole file is read: about a second for a gigabyte and a half.

    Raises:
        SignatureNotTrusted: It is not signed, or not by one of them.
        TamperedBundle: It was changed after it was signed.
        MalformedBundle: It ends within a member.
    """
    signature = bundle.signature
    if signature is None:
        raise SignatureNotTrusted(
            f"{bundle.name} is not signed",
            hint="ask its owner for a signed file; `mlguard issue` signs",
        )
    files = {
        member: _sha256(content, size, name=f"{bundle.name}: {member}")
        for member, size, content in bundle.signed_parts()
    }
    return verify_files(signature, files, signers, name=bundle.name)


def _sha256(content: BinaryIO, size: int, *, name: str) -> str:
    digest = hashlib.sha256()
    while size:
        piece = content.read(min(size, PIECE_BYTES))
        if not piece:
            raise MalformedBundle(f"{name}: the file ends in it")
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()
