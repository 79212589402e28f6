"""A signature names who signed, and covers every file and no other."""

import base64
import json
import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mlguard.errors import SignatureNotTrusted, TamperedBundle
from mlguard.signing import (
    SigningKey,
    read_envelope,
    read_signer,
    seal_envelope,
    sign_files,
    verify_files,
)

OWNER, STRANGER = SigningKey(bytes(range(1, 33))), SigningKey(bytes(range(2, 34)))
FILES = {"manifest.json": "ab" * 32, "weights.bin": "cd" * 32}
SIGNED = sign_files(FILES, OWNER, model="acme", signature="model.sig")


def verify(data: bytes = SIGNED, files=FILES, signers=(OWNER.public,)):
    return verify_files(data, files, signers, name="acme.mlgb")


def test_the_owner_is_named() -> None:
    statement = verify(signers=(STRANGER.public, OWNER.public))
    assert (statement.signer, statement.model) == (OWNER.public, "acme")
    assert statement.files == FILES


@pytest.mark.parametrize("signers", [(), (STRANGER.public,)])
def test_a_foreign_signer_is_refused(signers: tuple) -> None:
    with pytest.raises(SignatureNotTrusted, match="not one of the trusted signers"):
        verify(signers=signers)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({**FILES, "weights.bin": "ce" * 32}, "weights.bin was changed after"),
        ({**FILES, "extra": "ab" * 32}, "extra is missing or was added"),
        ({"manifest.json": "ab" * 32}, "weights.bin is missing or was added"),
    ],
)
def test_changed_files_are_refused(files: dict, said: str) -> None:
    with pytest.raises(TamperedBundle, match=said):
        verify(files=files)


def test_every_byte_of_the_payload_is_signed() -> None:
    bundle = json.loads(SIGNED)
    payload = bytearray(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    for place in range(0, len(payload), 7):
        payload[place] ^= 1
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        with pytest.raises(SignatureNotTrusted):
            verify(json.dumps(bundle).encode())
        payload[place] ^= 1


def test_a_signed_text_of_another_kind_is_no_signature_of_files() -> None:
    payload = read_envelope(SIGNED, name="it").payload
    other = seal_envelope(payload, "application/vnd.other+json", OWNER)
    with pytest.raises(SignatureNotTrusted, match="signature over something else"):
        verify(other)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"a":1,"a":2}',
        SIGNED.replace(b"v0.3+json", b"v0.2+json"),
        SIGNED.replace(b'"sig":"', b'"sig":"!'),
        b" " * (1 << 20) + SIGNED,
    ],
)
def test_what_is_no_signature_is_refused(data: bytes) -> None:
    with pytest.raises(SignatureNotTrusted):
        verify(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda s: s["predicate"]["resources"].clear(),
        lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]),
        lambda s: s["subject"].clear(),
        lambda s: s["subject"][0]["digest"].update(sha256="00" * 32),
        lambda s: s["predicate"]["resources"][0].update(algorithm="md5"),
    ],
)
def test_statements_that_are_signed_and_not_ours_are_refused(change) -> None:
    statement = json.loads(read_envelope(SIGNED, name="it").payload)
    change(statement)
    text = json.dumps(statement).encode()
    data = seal_envelope(text, "application/vnd.in-toto+json", OWNER)
    with pytest.raises(SignatureNotTrusted, match="not a statement about files"):
        verify(data)


def test_a_signer_is_read_from_pem() -> None:
    assert read_signer(OWNER.public.pem, name="owner.pub") == OWNER.public


def pem_of(key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"x" * 5000,
        pem_of(ed25519.Ed25519PrivateKey.generate()),
        pem_of(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_other_public_keys_are_refused(pem: bytes) -> None:
    with pytest.raises(SignatureNotTrusted, match="not a P-256 public key"):
        read_signer(pem, name="owner.pub")


def test_a_signing_key_shows_and_pickles_nothing() -> None:
    key = SigningKey.generate()
    assert key.reveal().hex() not in repr(key)
    assert SigningKey(key.reveal()).public == key.public
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(key)
