"""`mlguard audit compare` as a user types it, and that `mlguard audit RUN` stays."""

import json
from pathlib import Path

import pytest

from mlguard.audit.report.schema import dump_report
from mlguard.cli.app import run as mlguard
from tests.audits import attacked_report, report


@pytest.fixture
def audits(tmp_path: Path) -> list[str]:
    for name, written in (("one", attacked_report()), ("two", report())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.json").write_bytes(dump_report(written))
    return [str(tmp_path / "one"), str(tmp_path / "two")]


def test_a_table_is_printed_and_a_page_written(audits, tmp_path, capsys) -> None:
    page = tmp_path / "page.html"
    assert mlguard(["audit", "compare", *audits, "--out", str(page)]) == 0
    shown = capsys.readouterr().out
    for words in ("1. one", "2. two", "fidelity", "INCONCLUSIVE", "warning: "):
        assert words in shown
    assert "2 audits beside each other" in page.read_text()


def test_without_out_nothing_is_written(audits, tmp_path, capsys) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert mlguard(["audit", "compare", *audits]) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_json_is_json_and_nothing_else(audits, capsys) -> None:
    assert mlguard(["audit", "compare", *audits, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"]


def test_markup_in_a_name_is_shown_as_it_is(audits, tmp_path, capsys) -> None:
    odd = tmp_path / "[link=x]odd[reverse]"
    (tmp_path / "two").rename(odd)
    assert mlguard(["audit", "compare", audits[0], str(odd)]) == 0
    shown = capsys.readouterr().out
    assert "[link=x]odd" in shown.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["audit", "compare"], 2, "Missing argument"),
        (["audit", "compare", "one"], 40, "expected 2 to 50 audits"),
        (["audit", "compare", "one", "nothing"], 40, "cannot read nothing"),
        (["audit", "./compare", "--out", "x"], 40, "compare: no such file or folder"),
        (["audit", "one", "--out", "x"], 40, "one is not a run folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_first_word_decides(
    audits, tmp_path, monkeypatch, capsys, words: list[str], status: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mlguard(words) == status
    assert said in capsys.readouterr().err


def test_a_page_is_never_overwritten(audits, tmp_path, capsys) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    assert mlguard(["audit", "compare", *audits, "--out", str(page)]) == 41
    assert page.read_text() == "mine"


def test_help_shows_both_forms(capsys) -> None:
    assert mlguard(["--help"]) == 0
    assert "audit compare" in capsys.readouterr().out
    assert mlguard(["audit", "--help"]) == 0
    assert "mlguard audit compare A B" in capsys.readouterr().out
    assert mlguard(["audit", "compare", "--help"]) == 0
    assert "a run folder named compare" in " ".join(capsys.readouterr().out.split())
