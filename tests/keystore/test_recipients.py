"""Recipients: public lines that are checked, and what was wrapped for one."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from keystore import Identity, IdentityError, Recipient, wrap

IDENTITIES = {
    "x25519": Identity(bytes(range(32))),
    "hybrid": Identity(bytes(range(32)), pq=True),
}
KINDS = pytest.mark.parametrize("identity", IDENTITIES.values(), ids=IDENTITIES)


@KINDS
def test_what_is_wrapped_for_a_recipient_opens_with_his_identity(
    identity: Identity,
) -> None:
    sealed = wrap(identity.recipient, b"a content key", b"grant 7")
    assert b"a content key" not in sealed
    assert identity.unwrap(sealed, b"grant 7") == b"a content key"


@KINDS
def test_another_identity_or_info_does_not_open_it(identity: Identity) -> None:
    sealed = wrap(identity.recipient, b"a content key", b"grant 7")
    other = Identity(bytes(32), pq="mlkem" in identity.recipient)
    with pytest.raises(IdentityError, match=f"identity {other.id} does not open it"):
        other.unwrap(sealed, b"grant 7")
    with pytest.raises(IdentityError, match="does not open it"):
        identity.unwrap(sealed, b"grant 8")


@KINDS
def test_no_flipped_bit_and_no_cut_opens(identity: Identity) -> None:
    sealed = wrap(identity.recipient, b"a content key", b"")
    for at in range(0, len(sealed), max(1, len(sealed) // 40)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[at] ^= 1 << bit
            with pytest.raises(IdentityError, match="does not open it"):
                identity.unwrap(bytes(flipped), b"")
    for cut in (b"", sealed[:-1], sealed[1:], sealed + b"\0"):
        with pytest.raises(IdentityError, match="does not open it"):
            identity.unwrap(cut, b"")


def test_the_two_kinds_of_one_secret_share_no_key() -> None:
    one, other = (Recipient.parse(each.recipient) for each in IDENTITIES.values())
    assert one.public not in other.public
    assert one.verify != other.verify
    assert len({each.id for each in IDENTITIES.values()}) == 2


@KINDS
def test_a_line_is_one_line_and_says_its_kind(identity: Identity) -> None:
    line = identity.recipient
    assert line.split() == [line]
    assert line.startswith("mlguard-recipient-1-")
    assert Recipient.parse(f"  {line.upper()}\n") == Recipient.parse(line)


LINE = IDENTITIES["x25519"].recipient


@given(st.integers(0, len(LINE) - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz-"))
def test_one_mistyped_character_is_noticed(at: int, typed: str) -> None:
    line = LINE[:at] + typed + LINE[at + 1 :]
    if line != LINE:
        with pytest.raises(IdentityError, match="recipient"):
            Recipient.parse(line)


def test_a_line_of_one_kind_is_not_read_as_another() -> None:
    with pytest.raises(IdentityError, match="recipient"):
        Recipient.parse(LINE.replace("x25519", "mlkem768-x25519"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a line that begins with"),
        ("hello", "expected a line that begins with"),
        ("mlguard-recipient-2-x25519-aaaa", "expected a line that begins with"),
        ("mlguard-recipient-1-x448-aaaa", "expected a line that begins with"),
        (LINE[:-9], "is incomplete"),
        (LINE + "a" * 1_000_000, "is incomplete"),
        (LINE + "é", "is incomplete"),
    ],
    ids=["empty", "word", "version", "kem", "cut", "long", "accent"],
)
def test_what_is_no_recipient_is_refused(text: str, words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        Recipient.parse(text)


def test_the_secret_is_never_a_recipient() -> None:
    with pytest.raises(IdentityError, match="not a recipient"):
        Recipient.parse(IDENTITIES["x25519"].reveal())


def test_a_public_key_of_small_order_is_refused() -> None:
    weak = Recipient(kem="x25519", public=bytes(32), verify=bytes(32))
    with pytest.raises(IdentityError, match="public key cannot be used"):
        wrap(weak.line(), b"key", b"")


def test_a_point_that_is_not_on_the_curve_is_refused() -> None:
    good = generate_private_key(SECP256R1()).public_key()
    point = good.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert Recipient.parse(Recipient(kem="p256", public=point, verify=b"").line())
    bad = point[:-1] + bytes([point[-1] ^ 1])
    with pytest.raises(IdentityError, match="public key cannot be used"):
        Recipient.parse(Recipient(kem="p256", public=bad, verify=b"").line())


@KINDS
def test_the_text_form_keeps_the_kind(identity: Identity) -> None:
    again = Identity.parse(identity.reveal().lower().replace("-", " "))
    assert again.recipient == identity.recipient


# HPKE written out from RFC 9180, so that what is wrapped here opens elsewhere.


def _hkdf(salt: bytes, ikm: bytes, info: bytes, size: int) -> bytes:
    prk = hmac.digest(salt or bytes(32), ikm, "sha256")
    out, block = b"", b""
    for number in range(1, 4):
        block = hmac.digest(prk, block + info + bytes([number]), "sha256")
        out += block
    return out[:size]


def _labelled(
    suite: bytes, label: bytes, ikm: bytes, info: bytes, size: int, salt: bytes = b""
) -> bytes:
    """LabeledExtract and LabeledExpand, whose labels stand in `ikm` and `info`."""
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return _hkdf(salt, ikm, labelled, size)


def _open_by_hand(sealed: bytes, private: X25519PrivateKey, info: bytes) -> bytes:
    enc, ciphertext = sealed[:32], sealed[32:]
    shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
    kem = b"KEM\x00\x20"
    context = enc + private.public_key().public_bytes_raw()
    ikm = b"HPKE-v1" + kem + b"eae_prk" + shared
    secret = _labelled(kem, b"shared_secret", ikm, context, 32)
    suite = b"HPKE\x00\x20\x00\x01\x00\x02"
    start = b"HPKE-v1" + suite
    hashes = [
        hmac.digest(bytes(32), start + label + value, "sha256")
        for label, value in ((b"psk_id_hash", b""), (b"info_hash", info))
    ]
    schedule = b"\0" + b"".join(hashes)
    ikm = start + b"secret"
    key = _labelled(suite, b"key", ikm, schedule, 32, salt=secret)
    nonce = _labelled(suite, b"base_nonce", ikm, schedule, 12, salt=secret)
    return AESGCM(key).decrypt(nonce, ciphertext, b"")


def test_what_is_wrapped_is_hpke_as_rfc_9180_says() -> None:
    seed = hashlib.sha512  # the derivation of the spec, by hand
    prk = hmac.digest(bytes(64), bytes(range(32)), seed)
    private = hmac.digest(prk, b"mlguard/keystore/v2/x25519/x25519\x01", seed)[:32]
    sealed = wrap(LINE, b"a content key", b"grant 7")
    key = X25519PrivateKey.from_private_bytes(private)
    assert _open_by_hand(sealed, key, b"grant 7") == b"a content key"
