"""The package `model-signing` verifies our signatures, and we verify its."""

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mlguard.errors import TamperedBundle
from mlguard.signing import SigningKey, read_signer, sign_files, verify_files

signing = pytest.importorskip(
    "model_signing.signing",
    reason="needs `pip install model-signing pyOpenSSL`",
    exc_type=ImportError,
)
verifying = pytest.importorskip("model_signing.verifying", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("ignore")

SECRET = bytes(range(1, 33))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "acme"
    path.mkdir()
    (path / "manifest.json").write_text("{}")
    (path / "weights.bin").write_bytes(bytes(1000))
    return path


def hashes_of(folder: Path) -> dict[str, str]:
    files = [path for path in folder.iterdir() if path.name != "model.sig"]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def keys_in(folder: Path) -> tuple[Path, Path]:
    key = ec.derive_private_key(int.from_bytes(SECRET), ec.SECP256R1())
    private, public = folder / "owner.key", folder / "owner.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(SigningKey(SECRET).public.pem)
    return private, public


def test_it_verifies_ours_and_notices_a_change(folder: Path) -> None:
    _, public = keys_in(folder.parent)
    ours = folder / "model.sig"
    ours.write_bytes(
        sign_files(
            hashes_of(folder), SigningKey(SECRET), model="acme", signature="model.sig"
        )
    )
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
    verifier.verify(folder, ours)
    (folder / "weights.bin").write_bytes(bytes(999) + b"x")
    with pytest.raises(ValueError, match=r"weights\.bin"):
        verifier.verify(folder, ours)


def test_we_verify_its_and_notice_a_change(folder: Path) -> None:
    private, public = keys_in(folder.parent)
    theirs = folder / "model.sig"
    signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, theirs)
    signer = read_signer(public.read_bytes(), name="owner.pub")
    verify_files(theirs.read_bytes(), hashes_of(folder), [signer], name="acme")
    (folder / "weights.bin").write_bytes(bytes(999) + b"x")
    with pytest.raises(TamperedBundle, match=r"weights\.bin"):
        verify_files(theirs.read_bytes(), hashes_of(folder), [signer], name="acme")
