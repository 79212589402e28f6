"""`mlguard audit --from`: the report of an audit.json, without key, images or torch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlguard.audit.report.schema import AuditReport, dump_report
from mlguard.cli.app import run as mlguard
from tests.audits import report

ROOT = Path(__file__).parents[2]
UNPROVED = 31  # nobody vouches for the numbers, so no claim is decided


def saved(folder: Path, written: AuditReport) -> Path:
    path = folder / "audit.json"
    path.write_bytes(dump_report(written))
    return path


def again(source: Path, out: Path, *options: str) -> int:
    return mlguard(["audit", "--from", str(source), "--out", str(out), *options])


def test_the_report_is_there_again_and_the_numbers_are_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path, report())
    assert again(source, tmp_path / "new") == UNPROVED
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"audit.html", "audit.json", "junit.xml"}
    assert (tmp_path / "new/audit.json").read_bytes() == source.read_bytes()
    page = (tmp_path / "new/audit.html").read_text()
    assert "written again from audit.json, which has none" in page
    assert "<img" not in page
    assert "Who gets what" in capsys.readouterr().out


def test_a_folder_stands_for_its_audit_json(tmp_path: Path) -> None:
    saved(tmp_path, report())
    assert again(tmp_path, tmp_path / "new") == UNPROVED


def test_json_is_the_numbers_and_nothing_else(tmp_path: Path, capsys) -> None:
    source = saved(tmp_path, report())
    assert again(source, tmp_path / "new", "--json") == UNPROVED
    assert capsys.readouterr().out == source.read_text()


def test_what_nobody_vouches_for_passes_nothing(tmp_path: Path, capsys) -> None:
    assert again(saved(tmp_path, report()), tmp_path / "new") == UNPROVED
    assert "Unproved: nothing shows" in " ".join(capsys.readouterr().out.split())
    assert "Unproved" in (tmp_path / "new/audit.html").read_text()
    assert 'type="UNPROVED"' in (tmp_path / "new/junit.xml").read_text()


def test_a_report_can_be_made_twice_over(tmp_path: Path) -> None:
    source = saved(tmp_path, report())
    assert again(source, tmp_path / "one") == UNPROVED
    assert again(tmp_path / "one", tmp_path / "two") == UNPROVED
    assert (tmp_path / "two/audit.json").read_bytes() == source.read_bytes()


def with_schema(path: Path, schema: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": schema}))


def test_a_newer_schema_is_refused_with_advice(tmp_path: Path, capsys) -> None:
    source = saved(tmp_path, report())
    with_schema(source, "mlguard.audit/99")
    assert again(source, tmp_path / "new") == 40
    shown = capsys.readouterr().err
    assert "is of schema mlguard.audit/99, but this version reads" in shown
    assert "or a newer one" in shown
    assert not (tmp_path / "new").exists()


def test_an_audit_json_cannot_command_the_terminal(tmp_path: Path, capsys) -> None:
    source = saved(tmp_path, replace(report(), command="mlguard \x1b]0;evil\x07"))
    assert again(source, tmp_path / "new") == 40
    shown = capsys.readouterr()
    assert "a text contains control characters" in shown.err
    assert "\x1b]" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "1"], "got seed too"),
        (["--budget", "quick", "--data", "x"], "got budget, data too"),
        (["run"], "got run too"),
    ],
)
def test_what_only_a_new_audit_can_follow_is_refused(
    tmp_path: Path, capsys, options: list[str], words: str
) -> None:
    source = saved(tmp_path, report())
    assert again(source, tmp_path / "new", *options) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_neither_a_run_nor_an_audit_is_refused(tmp_path: Path, capsys) -> None:
    assert mlguard(["audit", "--out", str(tmp_path / "new")]) == 2
    assert "give a run folder or a bundle" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nothing.json", "."])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, capsys, name: str) -> None:
    assert again(tmp_path / name, tmp_path / "new") == 40
    assert "cannot read" in capsys.readouterr().err


def test_a_report_is_never_overwritten(tmp_path: Path, capsys) -> None:
    assert again(saved(tmp_path, report()), tmp_path) == 41
    assert "is not empty" in capsys.readouterr().err


def test_it_needs_no_torch(tmp_path: Path) -> None:
    source = saved(tmp_path, report())
    words = ["audit", "--from", str(source), "--out", str(tmp_path / "new")]
    probe = (
        f"import sys; from mlguard.cli.app import run; assert run({words!r}) == 31; "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False)
    assert done.returncode == 0
