"""A key on a PKCS#11 token opens the store and never leaves the token (SoftHSM2)."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from keystore import (
    Identity,
    Keystore,
    NoSlotOpens,
    Token,
    TokenError,
    TokenUri,
)
from tests.keystore.tokens import LABEL, PIN, SoftToken

MODULE = "module-path=/usr/lib/softhsm/libsofthsm2.so"


@pytest.fixture
def token(soft_token: SoftToken, request: pytest.FixtureRequest) -> Token:
    """A key of the test's own."""
    key = soft_token.key(request.node.name[:60])
    assert key.make_key()
    return key


@pytest.mark.parametrize("mechanism", ["aes-gcm", "aes-kwp"])
def test_a_key_on_a_token_opens_the_store(
    path: Path,
    identity: Identity,
    soft_token: SoftToken,
    mechanism: str,
) -> None:
    key = soft_token.key(mechanism, mechanism=mechanism)
    key.make_key()
    slot = Keystore.open(path, identity).add_slot(key, label="hsm")
    assert slot.lock.fields()["mechanism"] == mechanism
    assert Keystore.open(path, soft_token.key(mechanism)).names() == ("unet",)


def test_a_store_can_be_made_with_a_token_alone(tmp_path: Path, token: Token) -> None:
    Keystore.create(tmp_path / "store", token).add("unet", bytes(32))
    assert Keystore.open(tmp_path / "store", token).get("unet") == bytes(32)


def test_the_key_is_made_once(token: Token) -> None:
    assert not token.make_key()


def test_the_key_cannot_be_taken_out(
    token: Token, soft_token: SoftToken, request: pytest.FixtureRequest
) -> None:
    import pkcs11

    library = pkcs11.lib(soft_token.module)
    with library.get_token(token_label=LABEL).open(user_pin=PIN) as session:
        key = session.get_key(label=request.node.name[:60])
        assert not key[pkcs11.Attribute.EXTRACTABLE]
        assert key[pkcs11.Attribute.NEVER_EXTRACTABLE]
        with pytest.raises(pkcs11.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]


def test_a_key_that_could_be_taken_out_is_refused(soft_token: SoftToken) -> None:
    import pkcs11

    library = pkcs11.lib(soft_token.module)
    with library.get_token(token_label=LABEL).open(rw=True, user_pin=PIN) as session:
        session.generate_key(
            pkcs11.KeyType.AES,
            256,
            label="loose",
            id=b"\x01",
            store=True,
            template={pkcs11.Attribute.EXTRACTABLE: True},
        )
    with pytest.raises(TokenError, match="could be taken out of the token"):
        soft_token.key("loose").new_lock()


def test_another_key_of_the_token_does_not_open_it(
    path: Path, identity: Identity, token: Token, soft_token: SoftToken
) -> None:
    Keystore.open(path, identity).add_slot(token, label="hsm")
    other = soft_token.key("another")
    other.make_key()
    with pytest.raises(NoSlotOpens, match="object=another does not open it"):
        Keystore.open(path, other)


@pytest.mark.parametrize("mechanism", ["aes-gcm", "aes-kwp"])
def test_a_slot_secret_that_was_altered_opens_nothing(
    soft_token: SoftToken, mechanism: str
) -> None:
    key = soft_token.key("altered", mechanism=mechanism)
    key.make_key()
    lock = key.new_lock()
    assert key.wrapping_key(lock) is not None
    altered = lock.secret[:-1] + bytes([lock.secret[-1] ^ 1])
    assert key.wrapping_key(replace(lock, secret=altered)) is None


def test_a_wrong_pin_is_tried_once_and_said(soft_token: SoftToken) -> None:
    key = Token(TokenUri.parse(soft_token.uri()), "wrong")
    with pytest.raises(TokenError, match="the PIN was refused") as refusal:
        key.new_lock()
    assert "wrong PINs" in refusal.value.hint


def test_a_missing_token_key_or_module_is_said(soft_token: SoftToken) -> None:
    with pytest.raises(TokenError, match="expected one AES key, found 0"):
        soft_token.key("nothing").new_lock()
    uri = replace(TokenUri.parse(soft_token.uri()), token="nobody")
    with pytest.raises(TokenError, match="expected one token, found 0"):
        Token(uri, PIN).new_lock()
    uri = replace(uri, module_path="/nowhere/module.so")
    with pytest.raises(TokenError, match="cannot open shared object"):
        Token(uri, PIN).new_lock()


def test_a_store_without_a_token_slot_says_so(path: Path, token: Token) -> None:
    with pytest.raises(NoSlotOpens, match="no pkcs11 slot, only identity"):
        Keystore.open(path, token)


def test_the_file_holds_neither_pin_nor_module(
    path: Path, identity: Identity, token: Token, soft_token: SoftToken
) -> None:
    Keystore.open(path, identity).add_slot(token, label="hsm")
    written = path.read_bytes()
    assert PIN.encode() not in written
    assert b".so" not in written
    assert PIN not in f"{token!r} {token}"


def test_the_wrapping_key_is_in_no_file_in_the_clear(token: Token, path: Path) -> None:
    lock = token.new_lock()
    key = token.wrapping_key(lock)
    assert key is not None
    assert len(key) == 32
    assert key.hex() not in str(lock.fields())


def test_a_slot_is_read_without_a_token_or_its_module(
    path: Path, identity: Identity, token: Token
) -> None:
    Keystore.open(path, identity).add_slot(token, label="hsm")
    script = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "from pathlib import Path; from keystore import Identity, Keystore\n"
        "store = Keystore.open(Path(sys.argv[1]), Identity(bytes(range(32))))\n"
        "print(sorted(slot.kind for slot in store.slots()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "['identity', 'pkcs11']\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"pkcs11:object=a?{MODULE}&pin-value=1234", "names a PIN"),
        (f"pkcs11:object=a?{MODULE}&pin-source=file:/pin", "names a PIN"),
        (f"token=a;object=b?{MODULE}", "does not begin with pkcs11:"),
        ("pkcs11:object=a", "has no module-path"),
        (f"pkcs11:token=a?{MODULE}", "does not name an object"),
        (f"pkcs11:object=a;object=b?{MODULE}", "'object' is unknown or appears twice"),
        (f"pkcs11:object=a;colour=b?{MODULE}", "'colour' is unknown"),
        (f"pkcs11:object=a;type=cert?{MODULE}", "its type is not secret-key"),
    ],
)
def test_a_uri_that_names_no_key_is_refused(text: str, reason: str) -> None:
    with pytest.raises(TokenError, match=reason) as refusal:
        TokenUri.parse(text)
    assert "1234" not in str(refusal.value)


def test_a_uri_is_percent_decoded() -> None:
    uri = TokenUri.parse(f"pkcs11:token=my%20team;id=%01%ff;object=k%c3%a9y?{MODULE}")
    assert (uri.token, uri.id, uri.object) == ("my team", b"\x01\xff", "kéy")
    assert str(uri) == "pkcs11:token=my%20team;object=k%C3%A9y;id=%01%FF"
