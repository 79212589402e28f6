"""A forger edits what an audit wrote, and hands it on."""

import json
import os
from pathlib import Path

import pytest

from keystore import Identity, Keystore
from mlguard.audit.log import PROOF_USE, read_log
from mlguard.audit.report import check_proof
from mlguard.cli.app import run as mlguard
from mlguard.errors import ReportError
from tests.audits import KEY, OTHER_KEY, PROTECTION_ID, make_run

IDENTITY = Identity(bytes(range(32)))
UNDECIDED = 31  # nothing passes, a pipeline stops


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished audit in `report`, and a keystore with its key and another one."""
    folder = tmp_path_factory.mktemp("forged")
    make_run(folder / "run", baseline=True)
    IDENTITY.write(folder / "identity")
    with Keystore.create(folder / "keys.mlgk", IDENTITY) as store:
        store.add("acme", KEY.reveal())
        store.add("other", OTHER_KEY.reveal())
    words = ["audit", str(folder / "run"), "--out", str(folder / "report")]
    words += ["--attacks", "known-plaintext", "--device", "cpu", "--examples", "0"]
    assert mlguard([*words, *opener(folder)]) == UNDECIDED
    return folder


def opener(folder: Path) -> list[str]:
    store = ["--keystore", str(folder / "keys.mlgk")]
    return [*store, "--identity", str(folder / "identity")]


def again(folder: Path, source: Path, out: Path, *options: str) -> int:
    words = ["audit", "--from", str(source), "--out", str(out), *options]
    return mlguard([*words, *opener(folder)])


def forged(folder: Path, tmp_path: Path, edit) -> Path:
    """The report with one edit of its numbers, and the proof as it was."""
    place = tmp_path / "forged"
    place.mkdir()
    for name in ("audit.json", "audit.proof"):
        (place / name).write_bytes((folder / "report" / name).read_bytes())
    table = json.loads((place / "audit.json").read_text())
    edit(table)
    (place / "audit.json").write_text(json.dumps(table, indent=2) + "\n")
    return place


def passed(table: dict) -> None:
    for verdict in table["verdicts"]:
        verdict |= {"answer": "PASS", "reasons": []}


def without_claims(table: dict) -> None:
    table["verdicts"] = []


def lax(table: dict) -> None:
    table["verdicts"][1]["threshold"] = 1.0


def without_flags(table: dict) -> None:
    table["flags"] = []


def faithful(table: dict) -> None:
    table["findings"]["fidelity"] = 0.99


def tight(table: dict) -> None:
    table["findings"]["incorrect"]["maximum"] = 0.0


def unattacked(table: dict) -> None:
    table["attacks"]["findings"][0]["stolen_value"] = 0.0


def unworst(table: dict) -> None:
    table["attacks"]["stolen_value"] = 0.123


EDITS = [
    passed,
    lax,
    without_claims,
    without_flags,
    faithful,
    tight,
    unattacked,
    unworst,
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edit_that_does_not_fit_the_other_numbers_is_refused(
    folder: Path, tmp_path: Path, capsys, edit
) -> None:
    source = forged(folder, tmp_path, edit)
    assert again(folder, source, tmp_path / "new") == 40
    assert "numbers" in capsys.readouterr().err or edit is without_claims
    assert not (tmp_path / "new").exists()


def test_without_an_edit_it_is_read(folder: Path, tmp_path: Path) -> None:
    source = forged(folder, tmp_path, lambda table: None)
    assert again(folder, source, tmp_path / "new", "--key", "acme") == UNDECIDED
    assert "Unproved" not in (tmp_path / "new/audit.html").read_text()


def test_an_edit_that_fits_all_numbers_passes_nothing_and_is_marked(
    folder: Path, tmp_path: Path, capsys
) -> None:
    """Another recipe than was audited: no number follows from it."""
    source = forged(folder, tmp_path, lambda t: t["subject"].update(recipe="better"))
    assert again(folder, source, tmp_path / "new") == UNDECIDED
    assert "Unproved" in capsys.readouterr().out
    assert "Unproved" in (tmp_path / "new/audit.html").read_text()
    assert "UNPROVED" in (tmp_path / "new/junit.xml").read_text()
    assert not (tmp_path / "new/audit.proof").exists()


def test_with_the_key_that_edit_is_refused(
    folder: Path, tmp_path: Path, capsys
) -> None:
    source = forged(folder, tmp_path, lambda t: t["subject"].update(recipe="better"))
    assert again(folder, source, tmp_path / "new", "--key", "acme") == 40
    assert "not what the holder of the key wrote" in capsys.readouterr().err


def test_the_key_of_another_model_proves_nothing(
    folder: Path, tmp_path: Path, capsys
) -> None:
    assert again(folder, folder / "report", tmp_path / "new", "--key", "other") == 21
    assert "was protected with key" in capsys.readouterr().err


def test_a_report_whose_proof_was_taken_away_is_refused_with_the_key(
    folder: Path, tmp_path: Path, capsys
) -> None:
    source = forged(folder, tmp_path, lambda table: None)
    (source / "audit.proof").unlink()
    assert again(folder, source, tmp_path / "new", "--key", "acme") == 40
    assert "audit.proof" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["audit.html", "audit.json", "junit.xml"])
def test_every_file_is_proved_under_its_own_name(folder: Path, name: str) -> None:
    secret = KEY.for_model(PROTECTION_ID).derive(PROOF_USE)
    content = (folder / "report" / name).read_bytes()
    check_proof(folder / "report", name, content, secret)
    with pytest.raises(ReportError, match="not what the holder"):
        check_proof(folder / "report", name, content + b" ", secret)
    other = "junit.xml" if name == "audit.html" else "audit.html"
    with pytest.raises(ReportError, match="not what the holder"):
        check_proof(folder / "report", other, content, secret)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "x", "files": {}}'])
def test_a_proof_that_is_none_is_refused(
    folder: Path, tmp_path: Path, capsys, text: str
) -> None:
    source = forged(folder, tmp_path, lambda table: None)
    (source / "audit.proof").write_text(text)
    assert again(folder, source, tmp_path / "new", "--key", "acme") == 40
    assert "audit.proof is no" in capsys.readouterr().err.replace("\n", " ")


def test_the_log_gives_the_same_report_and_says_who_wrote_it(
    folder: Path, tmp_path: Path
) -> None:
    log = folder / "report/audit.jsonl"
    assert again(folder, log, tmp_path / "new", "--key", "acme") == UNDECIDED
    made, first = tmp_path / "new/audit.json", folder / "report/audit.json"
    assert made.read_bytes() == first.read_bytes()
    assert (tmp_path / "new/audit.proof").exists()


def test_a_log_that_was_edited_is_refused_with_the_key(
    folder: Path, tmp_path: Path, capsys
) -> None:
    log = tmp_path / "audit.jsonl"
    lines = (folder / "report/audit.jsonl").read_bytes()
    log.write_bytes(lines.replace(b'"recipe":"test"', b'"recipe":"best"'))
    assert log.read_bytes() != lines
    assert again(folder, log, tmp_path / "one") == UNDECIDED
    assert again(folder, log, tmp_path / "two", "--key", "acme") == 40
    assert "not what the holder of the key left" in capsys.readouterr().err


def test_a_stranger_s_log_cannot_command_the_terminal(
    folder: Path, tmp_path: Path, capsys
) -> None:
    log = tmp_path / "audit.jsonl"
    lines = (folder / "report/audit.jsonl").read_bytes()
    log.write_bytes(lines.replace(b'"recipe":"test"', b'"recipe":"\\u001b[2Jx"'))
    assert read_log(log).started.subject.recipe == "\x1b[2Jx"
    assert again(folder, log, tmp_path / "new") == 40
    shown = capsys.readouterr()
    assert "control characters" in shown.err
    assert "\x1b[2J" not in shown.out + shown.err


def test_only_its_owner_reads_a_report(folder: Path) -> None:
    files = [path for path in (folder / "report").iterdir()]
    assert len(files) == 5
    assert [path.name for path in files if os.stat(path).st_mode & 0o077] == []
