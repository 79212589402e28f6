"""Every `mlguard keys` command, as it is typed: answers, refusals and exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from mlguard.cli import app
from mlguard.cli.keys import keys_app

ROOT = Path(__file__).parents[2]


class Tour:
    """Types commands at one keystore."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.keystore = folder / "keystore.mlgk"
        self.identity = folder / "identity"
        self._capsys = capsys

    def type(self, *words: str) -> tuple[int, str, str]:
        where = ("--keystore", str(self.keystore), "--identity", str(self.identity))
        status = app.run([*words, *where])
        out, err = self._capsys.readouterr()
        return status, out, err

    def json(self, *words: str) -> Any:
        status, out, err = self.type(*words, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def tour(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Tour:
    """A keystore with the key "acme"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    tour = Tour(tmp_path, capsys)
    assert tour.type("keygen", "acme")[0] == 0
    return tour


def states(key: Any) -> list[tuple[int, str]]:
    return [(each["version"], each["state"]) for each in key["versions"]]


def test_a_key_from_new_to_destroyed(tour: Tour) -> None:
    assert tour.json("keys", "new", "beta", "--note", "demo")["note"] == "demo"
    assert tour.json("keys", "rotate", "beta")["primary"] == 1
    assert tour.json("keys", "promote", "beta@2")["primary"] == 2
    off = tour.json("keys", "disable", "beta@1", "--compromised")
    assert states(off) == [(1, "disabled"), (2, "enabled")]
    assert off["versions"][0]["compromised"]
    assert tour.json("keys", "allow", "beta", "--deletion")["deletion_allowed"]
    gone = tour.json("keys", "destroy", "beta@1", "--confirm", "beta")
    assert states(gone) == [(1, "destroyed"), (2, "enabled")]
    assert gone["versions"][0]["key_id"] is None


def test_rotate_with_promote_switches_at_once(tour: Tour) -> None:
    assert tour.json("keys", "rotate", "acme", "--promote")["primary"] == 2


def test_destroy_asks_for_the_name(tour: Tour) -> None:
    status, _, err = tour.type("keys", "destroy", "acme@1", "--confirm", "beta")
    assert status == 15
    assert "the name must be given" in err
    assert "hint: add --confirm acme" in err


def test_destroy_is_refused_while_something_needs_the_version(tour: Tour) -> None:
    tour.json("keys", "uses", "acme", "--add", "run", "runs/acme")
    tour.json("keys", "allow", "acme", "--deletion")
    tour.json("keys", "disable", "acme")
    words = ("keys", "destroy", "acme", "--confirm", "acme")
    status, _, err = tour.type(*words)
    assert status == 15
    assert "needed by 1: run runs/acme" in err
    assert states(tour.json(*words, "--force")) == [(1, "destroyed")]


def test_uses_are_added_and_removed(tour: Tour) -> None:
    added = tour.json("keys", "uses", "acme", "--add", "bundle", "a.mlgb")
    assert added["uses"][0]["reference"] == "a.mlgb"
    assert tour.json("keys", "uses", "acme", "--remove", "a.mlgb")["uses"] == []


def test_a_disabled_key_is_enabled_again(tour: Tour) -> None:
    tour.json("keys", "disable", "acme")
    assert states(tour.json("keys", "enable", "acme")) == [(1, "enabled")]


def test_a_note_is_shown(tour: Tour) -> None:
    tour.json("keys", "note", "acme", "for the demo")
    assert "note     for the demo" in tour.type("keys", "show", "acme")[1]


def test_a_key_moves_to_another_store_by_export_and_import(tour: Tour) -> None:
    file = tour.folder / "acme.key"
    status, _, err = tour.type("keys", "export", "acme", str(file))
    assert status == 15
    assert "does not allow export" in err
    assert not file.exists()
    tour.json("keys", "allow", "acme", "--export")
    status, out, _ = tour.type("keys", "export", "acme", str(file))
    assert (status, out.split()[-1]) == (0, str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    copy = tour.json("keys", "import", "copy", str(file))
    original = tour.json("keys", "show", "acme")
    assert copy["versions"][0]["key_id"] == original["versions"][0]["key_id"]
    assert len(tour.json("keys", "import", "copy", str(file), "--version")["versions"])


def test_an_export_answers_in_json_without_the_secret(tour: Tour) -> None:
    tour.json("keys", "allow", "acme", "--export")
    file = tour.folder / "acme.key"
    found = tour.json("keys", "export", "acme@1", str(file))
    original = tour.json("keys", "show", "acme")
    assert found == {
        "name": "acme",
        "version": 1,
        "key_id": original["versions"][0]["key_id"],
        "file": str(file),
    }


def commands(group: Any) -> dict[str, set[str]]:
    """Every command in a group and the groups in it, with its options."""
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            inner = commands(command)
            found |= {f"{name} {word}": inner[word] for word in inner}
        else:
            found[name] = {text for param in command.params for text in param.opts}
    return found


def test_every_command_answers_in_json_too() -> None:
    found = commands(typer.main.get_command(keys_app))
    assert {"export", "slots remove", "log"} <= set(found)
    assert [name for name, options in found.items() if "--json" not in options] == []


def test_an_identity_is_not_imported_as_a_key(tour: Tour) -> None:
    status, _, err = tour.type("keys", "import", "oops", str(tour.identity))
    assert status == 11
    assert "not a key: expected MLGUARD-KEY-1-" in err


def test_slots_are_listed_added_and_removed(tour: Tour) -> None:
    new = ("--new-identity", str(tour.folder / "ci"))
    status, out, err = tour.type("keys", "slots", "add", "ci", *new)
    assert status == 0
    assert f"made {tour.folder / 'ci'}" in err
    assert [line.split()[0] for line in sorted(out.splitlines())] == ["ci", "identity"]
    kept = tour.json("keys", "slots", "remove", "identity")
    assert [slot["label"] for slot in kept["slots"]] == ["ci"]
    assert tour.type("keys", "list")[0] == 11


def test_a_passphrase_is_added_and_changed_without_a_terminal(tour: Tour) -> None:
    for word in ("old", "new"):
        (tour.folder / word).touch(0o600)
        (tour.folder / word).write_text(f"{word}, and long enough")
    old = ("--new-passphrase-file", str(tour.folder / "old"))
    tour.json("keys", "slots", "add", "me", *old)
    new = ("--label", "me", "--new-passphrase-file", str(tour.folder / "new"))
    tour.json("keys", "passwd", *new)
    where = ["--keystore", str(tour.keystore), "--passphrase-file"]
    assert app.run(["keys", "list", *where, str(tour.folder / "old")]) == 11
    assert app.run(["keys", "list", *where, str(tour.folder / "new")]) == 0


def test_a_backup_is_restored(tour: Tour) -> None:
    copy = tour.folder / "copy"
    made = tour.json("keys", "backup", str(copy))
    assert len(made["sha256"]) == 64
    tour.keystore.write_bytes(b"")
    assert tour.type("keys", "list")[0] == 12
    assert tour.json("keys", "restore", str(copy))["generation"] == 4
    assert [key["name"] for key in tour.json("keys", "list")["keys"]] == ["acme"]


def test_a_store_that_went_back_exits_14_until_it_is_accepted(tour: Tour) -> None:
    older = tour.keystore.read_bytes()
    tour.json("keys", "rotate", "acme")
    tour.keystore.write_bytes(older)
    status, _, err = tour.type("keys", "check")
    assert status == 14
    assert "from generation 3 to 2" in err
    assert "`mlguard keys accept`" in err
    assert tour.json("keys", "accept")["generation"] == 2
    assert tour.json("keys", "check")["generation"] == 2


def test_check_counts_and_advises(tour: Tour) -> None:
    found = tour.json("keys", "check")
    assert (found["keys"], found["versions"], found["log_records"]) == (1, 1, 2)
    assert found["pinned"]
    assert "only one slot" in found["advice"][0]
    assert "generation   2" in tour.type("keys", "check")[1]


def test_the_log_is_shown_and_verified(tour: Tour) -> None:
    tour.json("keys", "rotate", "acme")
    records = tour.json("keys", "log")["records"]
    told = [(each["op"], each["key"], each["version"]) for each in records]
    assert told == [("create", "", 0), ("add", "acme", 1), ("rotate", "acme", 2)]
    assert tour.type("keys", "log", "--verify")[1] == "3 records, intact\n"
    log = Path(f"{tour.keystore}.log")
    log.write_bytes(log.read_bytes().replace(b"rotate", b"remove"))
    status, _, err = tour.type("keys", "log", "--verify")
    assert status == 12
    assert "record 3 of the log was altered" in err


def test_a_store_made_anew_by_hand_is_no_alarm(tour: Tour) -> None:
    tour.keystore.unlink()
    tour.type("keygen", "beta")
    assert "beta" in tour.type("keys", "list")[1]


def test_a_recovery_sheet_opens_the_store(tour: Tour) -> None:
    tour.keystore = tour.folder / "second.mlgk"
    _, out, _ = tour.type("keygen", "acme", "--recovery")
    lines = re.findall(r"^    ([A-Z0-9-]+)$", out, re.M)
    assert len(lines) == 3
    sheet = tour.folder / "sheet"
    sheet.touch(0o600)
    sheet.write_text("\n".join(lines))
    tour.identity = sheet
    assert "acme" in tour.type("keys", "list")[1]


def test_no_secret_appears_anywhere_on_a_tour_through_the_commands(
    tour: Tour,
) -> None:
    """Runs for real, in processes of their own, and searches what they leave."""
    canary = "correct-canary-battery"
    (tour.folder / "word").touch(0o600)
    (tour.folder / "word").write_text(canary)
    tour.json(
        *("keys", "slots", "add", "me", "--new-passphrase-file"),
        str(tour.folder / "word"),
    )
    identity = tour.identity.read_text().splitlines()[-1]
    shown = ""
    for words in (
        ["keys", "list"],
        ["keys", "show", "acme", "--json"],
        ["keys", "rotate", "acme"],
        ["keys", "slots", "list", "--json"],
        ["keys", "check"],
        ["keys", "log"],
        ["keys", "show", "nobody"],
        ["keys", "destroy", "acme"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "mlguard", *words, "--keystore", tour.keystore],
            cwd=ROOT,
            env=os.environ | {"MLGUARD_PASSPHRASE_FILE": str(tour.folder / "word")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        shown += done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    left = b"".join(
        path.read_bytes()
        for path in tour.folder.rglob("*")
        if path.is_file() and path.name not in ("word", "identity")
    )
    assert left
    for secret in (canary, identity, identity[-30:]):
        assert secret not in shown
        assert secret.encode() not in left
