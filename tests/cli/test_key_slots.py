"""`mlguard keys slots` where recipients, old formats and removals meet the terminal."""

import json
from pathlib import Path

import pytest

from keystore import Identity, Keystore
from mlguard.cli.app import run
from tests.keystore.test_upgrade import OLD

OWNER = Identity(bytes(range(32)))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment says that the keystore is, and an identity for it."""
    path = tmp_path / "a" / "keystore"
    path.parent.mkdir()
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(path))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return path


@pytest.fixture
def new(place: Path, tmp_path: Path) -> Path:
    OWNER.write(tmp_path / "mine")
    Keystore.create(place, OWNER, label="mine")
    return place


@pytest.fixture
def old(place: Path, tmp_path: Path) -> Path:
    """A store of format 1 with the slots "ci", which is ours, and "me"."""
    Identity.parse(OLD.fields["identity"][0]).write(tmp_path / "mine")
    place.write_bytes(OLD.data)
    return place


Capsys = pytest.CaptureFixture[str]


def listed(capsys: Capsys) -> dict[str, bool]:
    capsys.readouterr()
    assert run(["keys", "slots", "list", "--json"]) == 0
    slots = json.loads(capsys.readouterr().out)["slots"]
    return {slot["label"]: slot["unrenewed"] for slot in slots}


def test_a_member_is_let_in_by_the_line_he_sent(
    new: Path, tmp_path: Path, capsys: Capsys
) -> None:
    maria = str(tmp_path / "maria")
    assert run(["identity", "new", maria, "--pq"]) == 0
    line = capsys.readouterr().out.strip()
    (tmp_path / "line").write_text(line + "\n")
    for label, given in (("maria", line), ("again", str(tmp_path / "line"))):
        assert run(["keys", "slots", "add", label, "--recipient", given]) == 0
    assert run(["keys", "list", "--identity", maria]) == 0
    assert run(["keys", "slots", "remove", "maria", "again"]) == 0
    assert run(["keys", "list", "--identity", maria]) == 11


def test_a_mistyped_line_lets_nobody_in(new: Path, capsys: Capsys) -> None:
    line = Identity(bytes(32)).recipient
    words = ["keys", "slots", "add", "maria", "--recipient", line[:-1] + "7"]
    assert run(words) == 11
    assert "checksum" in capsys.readouterr().err
    assert listed(capsys) == {"mine": False}


def test_reading_an_old_store_says_nothing_and_writing_says_what_it_does(
    old: Path, capsys: Capsys
) -> None:
    assert run(["keys", "list"]) == 0
    assert "format" not in capsys.readouterr().err
    assert listed(capsys) == {"ci": True, "me": True}
    assert run(["keys", "new", "second"]) == 0
    assert "is now upgraded to format 2" in capsys.readouterr().err
    assert listed(capsys) == {"ci": False, "me": True}


def test_a_removal_that_waits_for_a_slot_says_what_to_do(
    old: Path, capsys: Capsys
) -> None:
    assert run(["keys", "slots", "renew"]) == 0
    line = Identity(bytes(32)).recipient
    assert run(["keys", "slots", "add", "maria", "--recipient", line]) == 0
    assert run(["keys", "check"]) == 0
    assert "should run `mlguard keys slots renew`: me" in capsys.readouterr().out
    assert run(["keys", "slots", "remove", "maria"]) == 11
    assert "ask the owner of each to run" in capsys.readouterr().err
    assert run(["keys", "slots", "remove", "maria", "me"]) == 0
    assert listed(capsys) == {"ci": False}
