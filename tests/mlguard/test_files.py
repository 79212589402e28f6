"""Writing files: whole or not at all, and never over something else."""

import errno
import os
from pathlib import Path

import pytest

from mlguard.errors import OutputError, OutputExists
from mlguard.files import atomic_write, prepare_output_folder, write_new


def test_content_is_written_and_nothing_else_remains(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", b"one")
    atomic_write(tmp_path / "a", b"two")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"two"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    atomic_write(tmp_path / "a", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match="No space left on device"):
        atomic_write(tmp_path / "a", b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*no/a: No such file"):
        atomic_write(tmp_path / "no" / "a", b"")


def test_file_in_place_of_the_folder_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        atomic_write(tmp_path / "file" / "a", b"")


def test_new_file_is_never_written_over_something(tmp_path: Path) -> None:
    write_new(tmp_path / "a", b"one")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("a", "dangling"):
        with pytest.raises(OutputExists, match="exists already"):
            write_new(tmp_path / name, b"two")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_output_folder_is_made_or_taken_if_empty(tmp_path: Path) -> None:
    prepare_output_folder(tmp_path / "x" / "y")
    prepare_output_folder(tmp_path / "x" / "y")
    assert (tmp_path / "x" / "y").is_dir()


def test_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(OutputExists, match="is not empty"):
        prepare_output_folder(tmp_path)


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputExists, match="is not a folder"):
        prepare_output_folder(tmp_path / "file")
