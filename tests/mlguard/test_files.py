"""Files: written whole or not at all, never over something else; read in bounds."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlguard import files
from mlguard.errors import OutputError, OutputExists
from mlguard.files import (
    atomic_write,
    prepare_output_folder,
    read_bounded,
    read_text,
    refuse_filled_folder,
    sha256_of,
    write_new,
)
from tests.endless import ENDLESS, endless


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
    with pytest.raises(OutputError, match=r"cannot write .*no/a: there is no folder"):
        atomic_write(tmp_path / "no" / "a", b"")


def test_file_in_place_of_the_folder_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        atomic_write(tmp_path / "file" / "a", b"")


def test_new_file_is_never_written_over_something(tmp_path: Path) -> None:
    write_new(tmp_path / "a", b"one")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("a", "dangling"):
        with pytest.raises(OutputExists, match="already exists"):
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


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    atomic_write(tmp_path / ("a" * 255), b"one")
    write_new(tmp_path / ("b" * 255), b"two")
    assert {len(path.name) for path in tmp_path.iterdir()} == {255}


@pytest.mark.parametrize("write", [atomic_write, write_new])
def test_a_longer_name_is_refused_without_a_word_of_space(
    tmp_path: Path, write: Callable[[Path, bytes], object]
) -> None:
    with pytest.raises(OutputError, match="name too long") as refusal:
        write(tmp_path / ("a" * 256), b"one")
    assert refusal.value.hint == "choose a shorter name"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=[None, errno.EPERM, errno.EOPNOTSUPP])
def links(request, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with hard links, and two without."""

    def refused(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    if request.param:
        monkeypatch.setattr(os, "link", refused)


@pytest.mark.usefixtures("links")
def test_the_slower_of_two_writers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_new(tmp_path / "a", b"one")
    monkeypatch.setattr(files, "refuse_existing", lambda _: None)  # it looked before
    with pytest.raises(OutputExists, match="a already exists"):
        write_new(tmp_path / "a", b"two")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"one"}


def test_without_links_a_failure_leaves_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OutputError, match="Operation not permitted"):
        write_new(tmp_path / "a", b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_whole_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 2)
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bounded(tmp_path / "a", 4)


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_has_no_end_is_not_read(tmp_path: Path, kind: str) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read_bounded(endless(tmp_path / "a", kind), 5)


def test_a_folder_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"directory|Permission"):
        read_bounded(tmp_path, 5)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*nodir") as refusal:
        write_new(tmp_path / "nodir" / "x.toml", b"")
    assert "make the folder" in refusal.value.hint


@pytest.mark.parametrize("check", [prepare_output_folder, refuse_filled_folder])
def test_folder_that_may_not_be_listed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(OutputError, match=r"cannot list .* Permission"):
        check(tmp_path)


@pytest.mark.parametrize("check", [prepare_output_folder, refuse_filled_folder])
def test_what_another_system_dropped_does_not_fill_a_folder(
    tmp_path: Path, check
) -> None:
    for name in (".DS_Store", "._a.jpg", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).touch()
    (tmp_path / "lost+found").mkdir()
    check(tmp_path)
    (tmp_path / "a.jpg").touch()
    with pytest.raises(OutputExists, match=r"is not empty: it holds a\.jpg"):
        check(tmp_path)


def test_link_to_nowhere_is_no_new_folder(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputExists, match="a link to a missing file"):
        refuse_filled_folder(tmp_path / "out")


def test_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9")
    assert read_text(path, 100) == "café"
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_text(path, 3)


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize("kind", ENDLESS)
def test_digest_of_what_has_no_end_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        sha256_of(endless(tmp_path / "a", kind))
