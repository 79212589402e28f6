"""Where a server gets its key, and what is refused instead of guessed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from keystore import (
    Identity,
    IdentityError,
    Keystore,
    KeystoreError,
    TokenError,
    TokenIdentity,
    TokenUri,
    write_private,
)
from keystore.textform import KEY_1, to_text
from mlguard.cli.parties import Customer
from mlguard.errors import KeySourceError
from mlguard.grants import Terms
from mlguard.issuing import issue
from mlguard.keys import ModelKey
from mlguard.runtime import Session
from mlguard.serving import open_key
from mlguard.serving.key_sources import IDENTITY, chosen_source
from tests.bundles import KEY as MODEL_KEY
from tests.bundles import images
from tests.grants.people import OWNER
from tests.issuing.files import owners
from tests.keystore.tokens import PIN, SoftToken, new_token
from tests.serving.key_files import write_key

KEY = ModelKey(bytes(range(32)))
TEXT = to_text(KEY_1, KEY.reveal())


def test_a_mounted_file(tmp_path: Path) -> None:
    write_key(tmp_path / "acme.key", KEY)
    assert open_key(f"file:{tmp_path / 'acme.key'}").key_id == KEY.key_id


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="nothing"):
        open_key(f"file:{tmp_path / 'nothing'}")


def test_a_file_that_holds_no_key(tmp_path: Path) -> None:
    (tmp_path / "no.key").write_text("hello")
    (tmp_path / "no.key").chmod(0o600)
    with pytest.raises(IdentityError, match="not a key"):
        open_key(f"file:{tmp_path / 'no.key'}")


@contextmanager
def service(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A stand-in for a key service on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path.startswith("/cdh/") else 404)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/cdh/resource/default/key/1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_key_service_on_this_machine() -> None:
    with service(200, TEXT.encode()) as url:
        assert open_key(url).key_id == KEY.key_id


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, b"", "answered 403"),
        (302, b"", "answered 302"),
        (200, b"A" * 5000, "did not answer with a key"),
        (200, b"\xff", "did not answer with a key"),
    ],
)
def test_a_service_without_a_key(status: int, body: bytes, said: str) -> None:
    with (
        service(status, body, Location="http://192.0.2.1/") as url,
        pytest.raises(KeySourceError, match=said),
    ):
        open_key(url)


def test_nobody_answers() -> None:
    with pytest.raises(KeySourceError, match="does not answer"):
        open_key("http://127.0.0.1:1/cdh/")


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/key",
        "http://localhost/key",
        "http://[::2]/",
        "http://[::1",
        "http://127.0.0.1:port/",
    ],
)
def test_a_key_is_never_fetched_from_elsewhere(url: str) -> None:
    with pytest.raises(KeySourceError, match="only from this machine"):
        open_key(url)


@pytest.mark.parametrize(
    "source",
    [
        f"file:{TEXT}",
        f"file:{TEXT.lower()}",
        f"keystore:{TEXT}#acme",
        f"http://127.0.0.1:1/{TEXT}",
        "http://user:secret-word@127.0.0.1:1/key",
        "http://secret-word@[::1]/key",
    ],
)
def test_a_source_that_holds_a_secret_is_refused_and_not_shown(source: str) -> None:
    with pytest.raises(KeySourceError, match="got a secret") as refusal:
        open_key(source)
    said = f"{refusal.value} {refusal.value.hint}".lower()
    assert "secret-word" not in said
    assert TEXT[-20:].lower() not in said


@pytest.mark.parametrize("path", ["cdh/token-5", "cdh?token-5", "cdh/token-5 x"])
def test_of_a_service_scheme_host_and_port_are_shown(path: str) -> None:
    with pytest.raises(KeySourceError, match=r"^http://127\.0\.0\.1:1 ") as refusal:
        open_key(f"http://127.0.0.1:1/{path}")
    assert "token-5" not in str(refusal.value)


@pytest.mark.parametrize("source", ["", "acme", "ftp://x/y", "https://127.0.0.1/"])
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises(KeySourceError, match="expected a key source"):
        open_key(source)


def test_a_keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity.generate()
    identity.write(tmp_path / "server.identity")
    with Keystore.create(tmp_path / "k.mlgk", identity) as store:
        store.add("acme", KEY.reveal())
    with pytest.raises(KeySourceError, match=f"neither {IDENTITY} nor"):
        open_key(f"keystore:{tmp_path / 'k.mlgk'}#acme")
    monkeypatch.setenv(IDENTITY, str(tmp_path / "server.identity"))
    assert open_key(f"keystore:{tmp_path / 'k.mlgk'}#acme").key_id == KEY.key_id
    with pytest.raises(KeySourceError, match="expected keystore:PATH#NAME"):
        open_key(f"keystore:{tmp_path / 'k.mlgk'}")


@pytest.fixture
def soft_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    """A token, and its PIN in a file that the environment names."""
    (tmp_path / "soft").mkdir()
    token = new_token(tmp_path / "soft")
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    write_private(tmp_path / "pin", PIN, comments=["of a test"])
    monkeypatch.setenv("MLGUARD_PIN_FILE", str(tmp_path / "pin"))
    return token


def private_uri(token: SoftToken) -> str:
    return token.uri("server").replace("?", ";type=private?")


def test_an_issued_bundle_opens_by_an_identity_on_a_token(
    soft_token: SoftToken, tmp_path: Path
) -> None:
    TokenIdentity(TokenUri.parse(private_uri(soft_token)), PIN).make_key()
    holder = open_key(private_uri(soft_token))
    customer = Customer.read(holder.recipient)
    out = tmp_path / "mine.mlgb"
    issue(owners(), MODEL_KEY, OWNER, customer, Terms("Me"), out, mark=False)
    pixels = images(1, 3, 9, 14)
    expected = Session(owners(), MODEL_KEY).predict(pixels)
    np.testing.assert_array_equal(Session.open(out, holder).predict(pixels), expected)


def test_a_keystore_opens_by_a_key_on_a_token(
    soft_token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLGUARD_TOKEN", soft_token.uri("team"))
    key = soft_token.key("team")
    key.make_key()
    with Keystore.create(tmp_path / "k.mlgk", key) as store:
        store.add("acme", KEY.reveal())
    assert open_key(f"keystore:{tmp_path / 'k.mlgk'}#acme").key_id == KEY.key_id
    with pytest.raises(KeySourceError, match="is no identity, which has type=private"):
        open_key(soft_token.uri("team"))
    write_private(tmp_path / "wrong", "canary-0000", comments=[])
    monkeypatch.setenv("MLGUARD_PIN_FILE", str(tmp_path / "wrong"))
    with pytest.raises(KeystoreError, match="PIN") as refusal:
        open_key(f"keystore:{tmp_path / 'k.mlgk'}#acme")
    assert "canary" not in str(refusal.value)


def test_a_token_needs_a_pin_and_a_library_of_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLGUARD_PIN_FILE", raising=False)
    with pytest.raises(KeySourceError, match="MLGUARD_PIN_FILE is not set"):
        open_key("pkcs11:object=a;type=private?module-path=/usr/lib/none.so")
    planted = tmp_path / "lib.so"
    planted.write_bytes(b"")
    planted.chmod(0o666)
    with pytest.raises(TokenError, match="users other than root"):
        open_key(f"pkcs11:object=a;type=private?module-path={planted}")
    with pytest.raises(TokenError, match="names a PIN") as refusal:
        open_key("pkcs11:object=a?module-path=/lib/x.so&pin-value=4711")
    assert "4711" not in str(refusal.value)


def test_the_environment_stands_before_the_configuration(monkeypatch) -> None:
    monkeypatch.delenv("MLGUARD_KEY_SOURCE", raising=False)
    assert chosen_source("file:/a") == "file:/a"
    with pytest.raises(KeySourceError, match="no key source"):
        chosen_source("")
    monkeypatch.setenv("MLGUARD_KEY_SOURCE", "file:/b")
    assert chosen_source("file:/a") == "file:/b"
