"""Sign what is shipped, and check who signed it: OpenSSF Model Signing v1.0.

A signature covers a list of files by their SHA-256. It is an in-toto statement in a
DSSE envelope in a Sigstore bundle, so that the package `model-signing` verifies ours
and we verify its. The room knows nothing of bundles, model keys or keystores: it is
handed hashes and a signing key. Its specification is docs/spec/signing-v1.md.
"""

from mlguard.signing.envelope import Envelope, read_envelope, seal_envelope
from mlguard.signing.keys import PublicSigner, Signer, SigningKey, read_signer
from mlguard.signing.statement import Statement, sign_files, verify_files

__all__ = [
    "Envelope",
    "PublicSigner",
    "Signer",
    "SigningKey",
    "Statement",
    "read_envelope",
    "read_signer",
    "seal_envelope",
    "sign_files",
    "verify_files",
]
