"""Sign the files of a release, and check them: `python .ci/release.py sign dist`.

The signing key is one of `mlguard signer new`, out of the keystore that
MLGUARD_KEYSTORE names, opened by MLGUARD_IDENTITY_FILE. The signature is a file
`mlguard.sig` as docs/spec/signing-v1.md has it (OpenSSF Model Signing v1.0).
"""

import hashlib
import os
import sys
from pathlib import Path

from keystore import Identity, Keystore
from mlguard.signing import SigningKey, read_signer, sign_files, verify_files

SIGNATURE = "mlguard.sig"


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a release but the signature, by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != SIGNATURE
    }


def sign(folder: Path, name: str = "signer") -> None:
    """Write the signature beside the files of a release."""
    identity = Identity.read(Path(os.environ["MLGUARD_IDENTITY_FILE"]))
    with Keystore.open(Path(os.environ["MLGUARD_KEYSTORE"]), identity) as store:
        key = SigningKey(store.get(name))
    signed = sign_files(digests(folder), key, model="mlguard", signature=SIGNATURE)
    (folder / SIGNATURE).write_bytes(signed)
    print(f"{folder / SIGNATURE}  signer {key.public.shown}")


def verify(folder: Path, signer: Path) -> None:
    """Check that a signer signed exactly the files of a release."""
    public = read_signer(signer.read_bytes(), name=str(signer))
    signature = (folder / SIGNATURE).read_bytes()
    found = verify_files(signature, digests(folder), [public], name=str(folder))
    print(f"{len(found.files)} files signed by {found.signer.shown}, unchanged since")


if __name__ == "__main__":
    verb, *places = sys.argv[1:]
    if verb == "sign":
        sign(Path(places[0]), *places[1:])
    else:
        verify(Path(places[0]), Path(places[1]))
