"""A report appears whole or not at all, and nothing is overwritten."""

import os
from pathlib import Path

import pytest

from mlguard.audit import read_report, report_folder, write_report
from mlguard.audit.report.folder import STAGING
from mlguard.audit.report.gallery import Gallery
from mlguard.errors import OutputError, OutputExists
from tests.audits import SECRET, report

FILES = ["audit.html", "audit.json", "audit.proof", "junit.xml"]


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != STAGING)


def test_the_files_appear_together(tmp_path: Path) -> None:
    out = tmp_path / "new" / "report"
    with report_folder(out) as folder:
        write_report(folder, report(), Gallery(), secret=SECRET)
        assert listed(out) == []
    assert listed(out) == FILES
    assert listed(out.parent) == ["report"]
    assert read_report(out / "audit.json") == report()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    with report_folder(out) as folder:
        write_report(folder, report(), Gallery(), secret=SECRET)
    assert listed(out) == FILES


def test_a_folder_that_holds_something_is_refused_before_the_work(
    tmp_path: Path,
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="is not empty"), report_folder(tmp_path):
        pytest.fail("the work began")
    assert listed(tmp_path) == ["notes.txt"]


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with report_folder(tmp_path / "link") as folder:
        write_report(folder, report(), Gallery(), secret=SECRET)
    assert listed(tmp_path) == ["link", "real"]
    assert (tmp_path / "link").is_symlink()
    assert listed(tmp_path / "real") == FILES


def test_the_folder_one_stands_in_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with report_folder(Path()) as folder:
        write_report(folder, report(), Gallery(), secret=SECRET)
    assert listed(tmp_path) == FILES


def test_a_folder_that_cannot_be_replaced_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mount point: it is not removed, and lies on a file system of its own."""
    out, replace = tmp_path / "mounted", os.replace
    out.mkdir()

    def within(source: Path, target: Path) -> None:
        if not (source.is_relative_to(out) and target.is_relative_to(out)):
            raise OSError(18, "Invalid cross-device link")
        replace(source, target)

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", within)
    monkeypatch.setattr(Path, "rmdir", busy)
    with report_folder(out) as folder:
        write_report(folder, report(), Gallery(), secret=SECRET)
    assert listed(out) == FILES


def test_one_file_that_cannot_be_moved_takes_the_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target == tmp_path / "audit.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with (
        pytest.raises(OutputError, match="No space left"),
        report_folder(tmp_path) as folder,
    ):
        write_report(folder, report(), Gallery(), secret=SECRET)
    assert listed(tmp_path) == []


def test_what_came_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def come(folder: Path) -> None:
        write_report(folder, report(), Gallery(), secret=SECRET)
        (tmp_path / "audit.json").write_text("mine")

    with (
        pytest.raises(OutputExists, match=r"audit\.json already exists"),
        report_folder(tmp_path) as folder,
    ):
        come(folder)
    assert listed(tmp_path) == ["audit.json"]
    assert (tmp_path / "audit.json").read_text() == "mine"


def unfinished(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text("mine")
    return folder


def test_an_unfinished_audit_is_taken_up_and_its_log_stays(tmp_path: Path) -> None:
    unfinished(tmp_path, "audit.jsonl", "audit.html")
    (tmp_path / STAGING).mkdir()
    with report_folder(tmp_path, resume=True) as folder:
        write_report(folder, report(), Gallery(), secret=SECRET)
    assert listed(tmp_path) == sorted([*FILES, "audit.jsonl"])
    assert (tmp_path / "audit.jsonl").read_text() == "mine"
    assert "<html" in (tmp_path / "audit.html").read_text()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["audit.jsonl", "notes.txt"], "it holds notes.txt"),
        (["audit.html"], "it holds audit.html"),
        (["audit.jsonl", "audit.json"], "is finished"),
    ],
)
def test_only_an_unfinished_audit_is_taken_up(
    tmp_path: Path, names: list[str], words: str
) -> None:
    unfinished(tmp_path, *names)
    with (
        pytest.raises(OutputExists, match=words),
        report_folder(tmp_path, resume=True),
    ):
        pytest.fail("the work began")
    assert listed(tmp_path) == sorted(names)


def test_a_folder_with_a_log_is_not_empty_and_the_hint_says_what_to_do(
    tmp_path: Path,
) -> None:
    unfinished(tmp_path, "audit.jsonl")
    with (
        pytest.raises(OutputExists, match="is not empty") as refusal,
        report_folder(tmp_path),
    ):
        pytest.fail("the work began")
    assert "--resume" in refusal.value.hint


def test_the_numbers_come_last_so_that_they_mean_the_report_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, replace = [], os.replace

    def watch(source: Path, target: Path) -> None:
        if Path(target).parent == tmp_path:
            moved.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    with report_folder(tmp_path) as folder:
        write_report(folder, report(), Gallery(), secret=SECRET)
    assert moved == ["audit.html", "audit.proof", "junit.xml", "audit.json"]


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
        write_report(folder, report(), Gallery(), secret=SECRET)
    assert listed(tmp_path) == []
