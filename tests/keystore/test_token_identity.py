"""A P-256 key pair on a PKCS#11 token as an identity (SoftHSM2)."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from keystore import (
    Identity,
    IdentityError,
    Keystore,
    NoSlotOpens,
    Recipient,
    TokenError,
    TokenIdentity,
    TokenUri,
    wrap,
)
from mlguard.cli.app import run
from tests.keystore.tokens import LABEL, PIN, SoftToken


def uri_of(soft_token: SoftToken, name: str) -> str:
    return (
        f"pkcs11:token={LABEL};object={name};type=private"
        f"?module-path={soft_token.module}"
    )


@pytest.fixture
def identity_named(soft_token: SoftToken) -> Callable[[str], TokenIdentity]:
    def make(name: str) -> TokenIdentity:
        identity = TokenIdentity(TokenUri.parse(uri_of(soft_token, name)), PIN)
        identity.make_key()
        return identity

    return make


Named = Callable[[str], TokenIdentity]


def test_what_is_wrapped_for_it_opens_with_the_token(identity_named: Named) -> None:
    """`cryptography` wraps, and the token and our half of RFC 9180 open."""
    identity = identity_named("opens")
    assert identity.recipient.startswith("mlguard-recipient-1-p256-")
    for plaintext in (b"", b"a content key", bytes(1000)):
        sealed = wrap(identity.recipient, plaintext, b"grant 7")
        assert identity.unwrap(sealed, b"grant 7") == plaintext


def test_another_key_or_info_does_not_open_it(identity_named: Named) -> None:
    one, other = identity_named("one"), identity_named("other")
    assert one.recipient != other.recipient
    sealed = wrap(one.recipient, b"a content key", b"grant 7")
    for identity, info in ((other, b"grant 7"), (one, b"grant 8")):
        with pytest.raises(IdentityError, match="does not open it"):
            identity.unwrap(sealed, info)


def test_what_was_altered_does_not_open(identity_named: Named) -> None:
    identity = identity_named("altered")
    sealed = wrap(identity.recipient, b"a content key", b"")
    for at in (0, 1, 40, 64, 65, len(sealed) - 1):
        flipped = bytearray(sealed)
        flipped[at] ^= 1
        with pytest.raises(IdentityError, match="does not open it"):
            identity.unwrap(bytes(flipped), b"")
    for cut in (b"", sealed[:65], sealed[:-1]):
        with pytest.raises(IdentityError, match="does not open it"):
            identity.unwrap(cut, b"")


def test_the_private_half_cannot_be_taken_out(
    identity_named: Named, soft_token: SoftToken
) -> None:
    import pkcs11

    identity_named("kept")
    library = pkcs11.lib(soft_token.module)
    with library.get_token(token_label=LABEL).open(user_pin=PIN) as session:
        key = session.get_key(label="kept", object_class=pkcs11.ObjectClass.PRIVATE_KEY)
        assert key[pkcs11.Attribute.NEVER_EXTRACTABLE]
        with pytest.raises(pkcs11.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]


def test_a_key_pair_is_made_once(identity_named: Named) -> None:
    assert not identity_named("once").make_key()


def test_it_opens_a_keystore_as_well(
    path: Path, identity: Identity, identity_named: Named
) -> None:
    on_token = identity_named("slot")
    slot = Keystore.open(path, identity).add_slot(on_token, label="hsm")
    assert slot.lock.fields()["mechanism"] == "ecdh-p256"
    store = Keystore.open(path, on_token)
    store.remove_slot("identity")
    assert Keystore.open(path, on_token).names() == ("unet",)
    with pytest.raises(NoSlotOpens, match="object=another does not open it"):
        Keystore.open(path, identity_named("another"))


def test_its_line_alone_makes_no_slot(
    path: Path, identity: Identity, identity_named: Named
) -> None:
    """It signs nothing, so who has it could not remove anybody."""
    line = Recipient.parse(identity_named("line").recipient)
    with pytest.raises(IdentityError, match="opens issued bundles"):
        Keystore.open(path, identity).add_slot(line)


def test_an_aes_key_is_not_taken_for_a_key_pair(soft_token: SoftToken) -> None:
    soft_token.key("aes").make_key()
    identity = TokenIdentity(TokenUri.parse(uri_of(soft_token, "aes")), PIN)
    with pytest.raises(TokenError, match="expected one P-256 key pair, found 0"):
        identity.unwrap(bytes(100), b"")


def test_the_command_prints_the_recipient(
    soft_token: SoftToken,
    identity_named: Named,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pin").touch(0o600)
    (tmp_path / "pin").write_text(PIN)
    words = ["--token", uri_of(soft_token, "cli"), "--pin-file", str(tmp_path / "pin")]
    assert run(["identity", "new", *words]) == 0
    made = capsys.readouterr()
    assert "never leaves the token" in made.err
    assert run(["identity", "show", *words]) == 0
    assert capsys.readouterr().out == made.out
    assert identity_named("cli").recipient + "\n" == made.out
    assert PIN not in made.out + made.err


@pytest.mark.parametrize("words", [[], ["me", "--token", "pkcs11:object=a"]])
def test_a_file_or_a_token_has_to_be_named(words: list[str]) -> None:
    assert run(["identity", "new", *words]) == 2


def test_a_recipient_of_p256_is_named_by_its_digest(identity_named: Named) -> None:
    identity = identity_named("digest")
    found = Recipient.parse(identity.recipient)
    labelled = b"mlguard recipient 1 p256\n" + found.public
    assert identity.id == hashlib.sha256(labelled).hexdigest()[:16]
