"""`mlguard identity`: made once, private, and a recipient that can be passed on."""

import json
from pathlib import Path

import pytest

from keystore import Identity, wrap
from mlguard.cli.app import run


@pytest.mark.parametrize("options", [[], ["--pq"]], ids=["x25519", "hybrid"])
def test_a_new_identity_is_private_and_its_recipient_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    file = tmp_path / "me.identity"
    assert run(["identity", "new", str(file), *options]) == 0
    out, err = capsys.readouterr()
    assert file.stat().st_mode & 0o777 == 0o600
    identity = Identity.read(file)
    assert out == identity.recipient + "\n"
    assert ("mlkem768" in out) == bool(options)
    assert identity.reveal() not in out + err
    assert identity.unwrap(wrap(out, b"key", b"info"), b"info") == b"key"


def test_an_identity_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "me.identity"
    file.write_text("something of mine")
    assert run(["identity", "new", str(file)]) == 11
    assert "never overwritten" in capsys.readouterr().err
    assert file.read_text() == "something of mine"


def test_show_prints_the_same_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "me.identity"
    run(["identity", "new", str(file), "--json"])
    made = json.loads(capsys.readouterr().out)
    assert run(["identity", "show", str(file)]) == 0
    assert capsys.readouterr().out == made["recipient"] + "\n"
    assert made["id"] in file.read_text()


def test_a_file_that_is_no_identity_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "me.identity"
    file.touch(0o600)
    file.write_text("hunter2")
    assert run(["identity", "show", str(file)]) == 11
    assert "not an identity" in capsys.readouterr().err
