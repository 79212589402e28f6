"""Where a passphrase comes from, in which order, and that it never shows."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keystore import (
    Identity,
    KeyNotUsable,
    Keystore,
    KeystoreNotFound,
    NoSlotOpens,
    Passphrase,
    PassphraseMissing,
    PassphraseRefused,
    WorkFactor,
)
from mlguard.cli import generated
from mlguard.cli.model_key import parse_key_name, read_model_key
from mlguard.cli.unlock import Unlock
from mlguard.keys import ModelKey

ROOT = Path(__file__).parents[2]
LIGHT = WorkFactor(memory_kib=8 * 1024, iterations=1, lanes=1)
SECRET = bytes(range(32))
KEY_ID = ModelKey(SECRET).key_id


@pytest.fixture(autouse=True)
def _nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A keystore with "acme", opened by "right" or by an identity file."""
    path = tmp_path / "keystore.mlgk"
    opened = Keystore.create(path, Passphrase("right", work=LIGHT))
    opened.add("acme", SECRET)
    identity = Identity.generate()
    identity.write(tmp_path / "identity")
    opened.add_slot(identity)
    return path


def passphrase_file(folder: Path, text: str | bytes) -> Path:
    file = folder / "passphrase"
    file.touch(0o600)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_name_may_carry_a_version() -> None:
    assert parse_key_name("acme") == ("acme", None)
    assert parse_key_name("acme@12") == ("acme", 12)


@pytest.mark.parametrize("name", ["acme@", "acme@x", "acme@-1", "acme@1@2", "acme@²"])
def test_what_is_no_version_is_refused(name: str) -> None:
    with pytest.raises(KeyNotUsable, match="does not name a version"):
        parse_key_name(name)


@pytest.mark.parametrize("text", ["right", "right\n", "right\r\n"], ids=repr)
def test_a_passphrase_file_opens(store: Path, tmp_path: Path, text: str) -> None:
    file = passphrase_file(tmp_path, text)
    key = read_model_key("acme", Unlock(keystore=store, passphrase_file=file))
    assert key.key_id == KEY_ID


def test_a_descriptor_opens(store: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"right\n")
    os.close(write)
    key = read_model_key("acme", Unlock(keystore=store, passphrase_fd=read))
    assert key.key_id == KEY_ID


def test_a_descriptor_that_is_not_open_is_refused(store: Path) -> None:
    with pytest.raises(PassphraseMissing, match="file descriptor 4711"):
        read_model_key("acme", Unlock(keystore=store, passphrase_fd=4711))


def test_an_identity_file_opens(store: Path, tmp_path: Path) -> None:
    key = read_model_key("acme", Unlock(keystore=store, identity=tmp_path / "identity"))
    assert key.key_id == KEY_ID


@pytest.mark.parametrize(
    ("variable", "file"),
    [("MLGUARD_IDENTITY_FILE", "identity"), ("MLGUARD_PASSPHRASE_FILE", "passphrase")],
)
def test_the_environment_names_a_file(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    file: str,
) -> None:
    passphrase_file(tmp_path, "right")
    monkeypatch.setenv(variable, str(tmp_path / file))
    assert read_model_key("acme", Unlock(keystore=store)).key_id == KEY_ID


def test_the_command_line_beats_the_environment(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "identity"))
    file = passphrase_file(tmp_path, "wrong")
    with pytest.raises(NoSlotOpens, match="passphrase does not open"):
        read_model_key("acme", Unlock(keystore=store, passphrase_file=file))


def test_an_empty_variable_counts_as_none(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", "")
    with pytest.raises(PassphraseMissing, match="no terminal to ask at"):
        read_model_key("acme", Unlock(keystore=store))


def test_without_any_source_the_hint_names_them_all(store: Path) -> None:
    with pytest.raises(PassphraseMissing, match="no terminal to ask at") as refusal:
        read_model_key("acme", Unlock(keystore=store))
    for source in ("--identity", "--passphrase-file", "MLGUARD_PASSPHRASE_FILE"):
        assert source in refusal.value.hint


def test_a_missing_store_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(KeystoreNotFound, match="no keystore at"):
        read_model_key("acme", Unlock(keystore=tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"two\nlines\n", "more than one line"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 5000, "more than one line"),
    ],
    ids=["nothing", "line-end", "two", "binary", "long"],
)
def test_a_file_that_is_no_passphrase_is_refused(
    store: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    file = passphrase_file(tmp_path, content)
    with pytest.raises(PassphraseRefused, match=reason):
        read_model_key("acme", Unlock(keystore=store, passphrase_file=file))


def test_a_missing_passphrase_file_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(PassphraseMissing, match="cannot read the passphrase file"):
        read_model_key(
            "acme", Unlock(keystore=store, passphrase_file=tmp_path / "nothing")
        )


def test_a_passphrase_file_open_to_others_is_warned_of(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = passphrase_file(tmp_path, "right")
    file.chmod(0o644)
    read_model_key("acme", Unlock(keystore=store, passphrase_file=file))
    assert "can be read by other users" in capsys.readouterr().err


def test_a_secret_that_is_no_model_key_is_refused(store: Path, tmp_path: Path) -> None:
    opened = Keystore.open(store, Passphrase("right"))
    opened.add("token", b"short", purpose="token")
    with pytest.raises(KeyNotUsable, match="expected 32 bytes, got 5"):
        read_model_key("token", Unlock(keystore=store, identity=tmp_path / "identity"))


ASK = """
import sys
from pathlib import Path
from mlguard.cli.model_key import read_model_key
from mlguard.cli.unlock import Unlock
print("key", read_model_key("acme", Unlock(keystore=sys.argv[1])).key_id)
"""


Answer = str | Callable[[str], str]  # or what is made of all that was shown


def on_a_terminal(script: str, path: Path, answers: list[Answer]) -> str:
    """Run a script on a terminal of its own; type an answer at each question."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    shown, deadline = "", time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([leader], [], [], 1)[0]:
            continue
        try:
            shown += os.read(leader, 4096).decode()
        except OSError:  # the other end is closed
            break
        if answers and shown.endswith(": "):
            shown += " "
            answer = answers.pop(0)
            typed = answer if isinstance(answer, str) else answer(shown)
            os.write(leader, typed.encode() + b"\n")
    process.kill()
    process.wait()
    os.close(leader)
    return shown


def test_on_a_terminal_the_prompt_names_the_store_and_hides_the_answer(
    store: Path,
) -> None:
    shown = on_a_terminal(ASK, store, ["right"])
    assert f"Passphrase for {store}: " in shown
    assert f"key {KEY_ID}" in shown
    assert "right" not in shown.replace(str(store), "")


CREATE = """
import sys
from pathlib import Path
from mlguard.cli.keys import keygen
keygen("acme", keystore=Path(sys.argv[1]))
"""


def test_a_new_store_asks_twice(tmp_path: Path) -> None:
    path = tmp_path / "new.mlgk"
    shown = on_a_terminal(CREATE, path, ["one two", "one two", "n"])
    assert "Again: " in shown
    assert Keystore.open(path, Passphrase("one two")).names() == ("acme",)


MADE = re.compile(r"^ {4}((?:[a-z2-7]{4}-){5}[a-z2-7]{4})\r?$", re.M)


def typed_back(shown: str) -> str:
    """What somebody types who was shown a passphrase."""
    return MADE.findall(shown)[0]


def test_an_empty_answer_has_a_passphrase_made_that_opens_the_store(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new.mlgk"
    shown = on_a_terminal(CREATE, path, ["", typed_back, "n"])
    assert f"New passphrase for {path} (empty: have one made): " in shown
    assert "a passphrase of 120 bits; keep it now" in shown
    (made,) = MADE.findall(shown)
    assert shown.count(made) == 1, "typed back unseen"
    assert Keystore.open(path, Passphrase(made)).names() == ("acme",)


def test_a_made_passphrase_that_is_not_typed_back_makes_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new.mlgk"
    shown = on_a_terminal(CREATE, path, ["", ""])
    assert MADE.search(shown)
    assert "the two passphrases differ" in shown
    assert not path.exists()


def test_a_made_passphrase_reaches_no_pipe(tmp_path: Path) -> None:
    path = tmp_path / "new.mlgk"
    log = tmp_path / "log"
    script = f"import sys; sys.stderr = open({str(log)!r}, 'w')\n{CREATE}"
    shown = on_a_terminal(script, path, ["", ""])
    assert not MADE.search(shown + log.read_text())
    assert not path.exists()


def test_two_made_passphrases_differ_and_have_the_bits_that_are_said() -> None:
    made = {generated.passphrase() for _ in range(100)}
    assert len(made) == 100
    letters = {letter for text in made for letter in text} - {"-"}
    assert letters == set(generated.ALPHABET)
    assert len(generated.ALPHABET) ** (generated.GROUPS * generated.GROUP) == (
        2**generated.BITS
    )


def test_two_different_answers_make_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new.mlgk"
    shown = on_a_terminal(CREATE, path, ["one", "two"])
    assert "the two passphrases differ" in shown
    assert not path.exists()
