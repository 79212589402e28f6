"""A keystore in a database, from the command line."""

import json
from pathlib import Path

import pytest

from mlguard.cli.app import run
from tests.keystore.conftest import postgres, url  # noqa: F401
from tests.keystore.databases import PASSWORD


def test_the_url_works_wherever_a_path_does_and_its_password_never_shows(
    url: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLGUARD_KEYSTORE", url)
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "identity"))
    copy = str(tmp_path / "copy")
    for command in (
        ["keygen", "acme"],
        ["keys", "list"],
        ["keys", "rotate", "acme", "--promote"],
        ["keys", "backup", copy],
        ["keys", "note", "acme", "hello"],
        ["keys", "restore", copy],
        ["keys", "check"],
        ["doctor"],
    ):
        assert run(command) == 0, command
    told = "".join(capsys.readouterr())
    assert PASSWORD not in told
    assert "does not exist yet" not in told
    assert run(["keys", "log", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["records"]
    assert [each["op"] for each in records][-2:] == ["note", "restore"]


def test_doctor_tells_of_a_server_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg")
    place = f"postgresql://me:hunter2@/db?host={tmp_path}"
    assert run(["doctor", "--keystore", place]) == 2
    told = capsys.readouterr().out
    assert "PROBLEM: cannot use postgresql://me@/db" in told
    assert "hunter2" not in told
