"""A report appears whole or not at all, and nothing is overwritten."""

from pathlib import Path

import pytest

from mlguard.audit import read_report, report_folder, write_report
from mlguard.audit.pictures import Gallery
from mlguard.errors import OutputError, OutputExists
from tests.audits import report


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_both_files_appear_together(tmp_path: Path) -> None:
    out = tmp_path / "new" / "report"
    with report_folder(out) as folder:
        write_report(folder, report(), Gallery())
        assert listed(out) == []
    assert listed(out) == ["audit.html", "audit.json"]
    assert listed(out.parent) == ["report"]
    assert read_report(out / "audit.json") == report()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    with report_folder(out) as folder:
        write_report(folder, report(), Gallery())
    assert listed(out) == ["audit.html", "audit.json"]


def test_a_folder_that_holds_something_is_refused_before_the_work(
    tmp_path: Path,
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="is not empty"), report_folder(tmp_path):
        pytest.fail("the work began")
    assert listed(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_when_the_work_fails(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    with pytest.raises(failure):
        fail_half_way(tmp_path / "report", failure)
    assert listed(tmp_path) == []


def fail_half_way(out: Path, failure: type[BaseException]) -> None:
    with report_folder(out) as folder:
        (folder / "audit.json").write_text("half")
        raise failure


def test_a_full_disk_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlguard.files.os.fsync", full)
    with (
        pytest.raises(OutputError, match="No space left"),
        report_folder(tmp_path / "report") as folder,
    ):
        write_report(folder, report(), Gallery())
    assert listed(tmp_path) == []
