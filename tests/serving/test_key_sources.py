"""Where a server gets its key, and what is refused instead of guessed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from keystore import Identity, IdentityError, Keystore, KeystoreError
from keystore.textform import KEY_1, to_text
from mlguard.errors import KeySourceError
from mlguard.keys import ModelKey
from mlguard.serving import open_key
from mlguard.serving.key_sources import IDENTITY, chosen_source
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
    with pytest.raises(KeySourceError, match=f"{IDENTITY} is not set"):
        open_key(f"keystore:{tmp_path / 'k.mlgk'}#acme")
    monkeypatch.setenv(IDENTITY, str(tmp_path / "server.identity"))
    assert open_key(f"keystore:{tmp_path / 'k.mlgk'}#acme").key_id == KEY.key_id
    with pytest.raises(KeySourceError, match="expected keystore:PATH#NAME"):
        open_key(f"keystore:{tmp_path / 'k.mlgk'}")


def test_the_environment_stands_before_the_configuration(monkeypatch) -> None:
    monkeypatch.delenv("MLGUARD_KEY_SOURCE", raising=False)
    assert chosen_source("file:/a") == "file:/a"
    with pytest.raises(KeySourceError, match="no key source"):
        chosen_source("")
    monkeypatch.setenv("MLGUARD_KEY_SOURCE", "file:/b")
    assert chosen_source("file:/a") == "file:/b"
