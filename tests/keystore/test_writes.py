"""Writes: private, atomic, verified; after any fault the old state or the new one."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from keystore import (
    FileStorage,
    Identity,
    Keystore,
    KeystoreBusy,
    KeystoreError,
    KeystoreNotWritable,
    MalformedKeystore,
    backup,
    disk,
    file_storage,
    opened,
    restore,
)

SECRET = b"\x07" * 32
ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from keystore import Identity, Keystore
store = Keystore.open(Path(sys.argv[1]), Identity(bytes(range(32))))
print("open", flush=True)
for number in range(int(sys.argv[3])):
    store.add(f"{sys.argv[2]}-{number}", bytes([7]) * 32)
    print(number, flush=True)
"""


def writer(path: Path, prefix: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), prefix, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def names(path: Path) -> set[str]:
    return set(Keystore.open(path, Identity(bytes(range(32)))).names())


def strays(path: Path) -> list[str]:
    return [item.name for item in path.parent.iterdir() if item.suffix == ".tmp"]


def test_files_are_private_whatever_the_umask(
    tmp_path: Path, identity: Identity
) -> None:
    path = tmp_path / "new" / "keystore.mlgk"
    old = os.umask(0)
    try:
        Keystore.create(path, identity).add("unet", SECRET)
    finally:
        os.umask(old)
    modes = {item.name: item.stat().st_mode & 0o777 for item in path.parent.iterdir()}
    assert modes == {
        "keystore.mlgk": 0o600,
        "keystore.mlgk.bak": 0o600,
        "keystore.mlgk.lock": 0o600,
        "keystore.mlgk.log": 0o600,
    }
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_state_before_is_kept_beside(path: Path, identity: Identity) -> None:
    before = path.read_bytes()
    Keystore.open(path, identity).add("second", SECRET)
    assert path.with_name("keystore.mlgk.bak").read_bytes() == before


def test_a_backup_that_is_already_the_store_itself_leaves_nothing_behind(
    path: Path, identity: Identity
) -> None:
    """What a crash between keeping the backup and the rename leaves."""
    backup = path.with_name("keystore.mlgk.bak")
    backup.unlink()
    os.link(path, backup)
    Keystore.open(path, identity).add("second", SECRET)
    assert names(path) == {"unet", "second"}
    assert strays(path) == []


def test_leftovers_of_a_crash_are_swept_up(path: Path, identity: Identity) -> None:
    path.with_name(".keystore.mlgk.0123.tmp").write_bytes(b"half")
    Keystore.open(path, identity).add("second", SECRET)
    assert strays(path) == []


def test_reading_needs_no_writable_folder_and_leaves_nothing(
    path: Path, identity: Identity
) -> None:
    path.with_name("keystore.mlgk.lock").unlink(missing_ok=True)
    Keystore.open(path, identity).get("unet")
    assert not path.with_name("keystore.mlgk.lock").exists()


def test_a_busy_store_is_refused_after_a_while(path: Path, identity: Identity) -> None:
    store = Keystore.open(path, identity)
    store.busy_timeout(0.05)
    with (
        FileLock(f"{path}.lock", mode=0o600),
        pytest.raises(KeystoreBusy, match="in use by another process"),
    ):
        store.add("second", SECRET)
    store.add("second", SECRET)


CALLS = (
    *("open", "write", "fsync", "link", "replace", "fstat", "close"),
    *("unlink", "mkdir", "ftruncate", "lseek", "pread", "scandir"),
)
CREATE_CALLS = ("open", "write", "fsync", "replace", "rename", "ftruncate", "mkdir")
RESTORE_CALLS = ("open", "write", "fsync", "link", "replace", "unlink", "ftruncate")
FAULTS = (errno.ENOSPC, errno.EIO, errno.EACCES)


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", CALLS)
def test_a_failing_call_leaves_the_old_state_or_the_new_one(
    path: Path,
    identity: Identity,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    fault: int,
) -> None:
    """Fail the first call, then only the second …, until none is left to fail."""
    before, store = {"unet"}, Keystore.open(path, identity)
    for nth in range(20):
        new = f"{call}-{nth}"
        with monkeypatch.context() as patch:
            calls = _fail(patch, call, nth, fault)
            with contextlib.suppress(KeystoreError):  # nothing else may come out
                store.add(new, SECRET)
        after = names(path)
        assert after in (before, before | {new})
        assert strays(path) == []
        before = after
        if len(calls) <= nth:
            break
    else:
        pytest.fail("never got through")
    assert nth > 0
    assert new in after


@pytest.mark.parametrize("call", CREATE_CALLS)
def test_a_store_is_made_whole_or_not_at_all(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for nth in range(20):
        path = tmp_path / f"{nth}" / "keystore.mlgk"
        if call != "mkdir":
            path.parent.mkdir()
            path.with_name("keystore.mlgk.log").write_bytes(b"of an earlier store\n")
        with monkeypatch.context() as patch:
            calls = _fail(patch, call, nth, errno.ENOSPC)
            with contextlib.suppress(KeystoreError):
                Keystore.create(path, identity)
        assert not path.exists() or names(path) == set()
        assert path.parent.exists() is False or strays(path) == []
        if len(calls) <= nth:
            break
    assert nth > 0
    assert names(path) == set()


@pytest.mark.parametrize("call", RESTORE_CALLS)
def test_a_restore_leaves_the_old_state_or_the_restored_one(
    path: Path,
    identity: Identity,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    backup(Keystore.open(path, identity), tmp_path / "copy")
    Keystore.open(path, identity).add("second", SECRET)
    for nth in range(20):
        with monkeypatch.context() as patch:
            calls = _fail(patch, call, nth, errno.EIO)
            with contextlib.suppress(KeystoreError):
                restore(path, tmp_path / "copy", identity)
        assert names(path) in ({"unet", "second"}, {"unet"})
        assert strays(path) == []
        if len(calls) <= nth:
            break
    assert nth > 0
    assert names(path) == {"unet"}
    Keystore.open(path, identity).check()


def _fail(patch: pytest.MonkeyPatch, call: str, nth: int, fault: int) -> list[None]:
    real: Callable[..., Any] = getattr(os, call)
    calls: list[None] = []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == nth + 1:
            raise OSError(fault, os.strerror(fault))
        return real(*args, **kwargs)

    patch.setattr(os, call, failing)
    return calls


def test_a_full_disk_is_called_by_its_name(
    path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Keystore.open(path, identity)
    _fail(monkeypatch, "write", 0, errno.ENOSPC)
    with pytest.raises(KeystoreNotWritable, match="No space left on device") as refusal:
        store.add("second", SECRET)
    assert "as it was" in refusal.value.hint


def test_short_writes_are_completed(
    path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    Keystore.open(path, identity).add("second", SECRET)
    assert names(path) == {"unet", "second"}


def test_what_is_read_back_wrong_never_becomes_the_store(
    path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lying(fd: int, data: bytes) -> int:
        return real(fd, bytes(len(data)))

    real, before = os.write, path.read_bytes()
    store = Keystore.open(path, identity)
    monkeypatch.setattr(os, "write", lying)
    with pytest.raises(KeystoreNotWritable, match="not what was written"):
        store.add("second", SECRET)
    assert path.read_bytes() == before
    assert strays(path) == []


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 200_000])
@pytest.mark.parametrize("at", [0, -1])
def test_a_file_is_what_was_written_or_it_is_not(
    tmp_path: Path, size: int, at: int
) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "a").write_bytes(data)
    assert disk.holds(tmp_path / "a", data)
    for other in (data + b"x", data[:-1] if data else b"y", flipped(data, at)):
        (tmp_path / "a").write_bytes(other)
        assert not disk.holds(tmp_path / "a", data)


def flipped(data: bytes, at: int) -> bytes:
    edited = bytearray(data or b"z")
    edited[at] ^= 1
    return bytes(edited)


def test_what_would_not_open_never_becomes_the_store(
    path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are put together wrongly are stored faithfully, and refused."""
    real, before = opened.put_together, path.read_bytes()

    def mistaken(*args: Any) -> tuple[bytes, str]:
        data, checksum = real(*args)
        return flipped(data, -1), checksum

    store = Keystore.open(path, identity)
    monkeypatch.setattr(opened, "put_together", mistaken)
    with pytest.raises(MalformedKeystore, match="checksum does not match"):
        store.add("second", SECRET)
    assert path.read_bytes() == before
    assert strays(path) == []


def test_a_write_opens_what_it_wrote_syncs_it_and_reads_it_back_before_the_rename(
    path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log first; the folder last."""
    seen: list[str] = []
    store = Keystore.open(path, identity)
    for place, name in (
        (file_storage, "write_all"),
        (opened, "open_payload"),
        (file_storage, "holds"),
        (os, "fsync"),
        (os, "link"),
        (os, "replace"),
    ):
        _noting(monkeypatch, place, name, seen)
    store.add("second", SECRET)
    assert seen == [
        *("write_all", "fsync"),
        *("write_all", "open_payload", "fsync", "holds"),
        *("link", "replace", "replace", "fsync"),
    ]


def _noting(
    patch: pytest.MonkeyPatch, place: object, name: str, seen: list[str]
) -> None:
    real: Callable[..., Any] = getattr(place, name)

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return real(*args, **kwargs)

    patch.setattr(place, name, noted)


def test_a_disk_that_takes_no_hint_to_begin_is_no_failure(
    path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail(monkeypatch, "posix_fadvise", 0, errno.EINVAL)
    Keystore.open(path, identity).add("second", SECRET)
    assert names(path) == {"unet", "second"}


def test_processes_that_add_at_the_same_time_lose_nothing(path: Path) -> None:
    running = [writer(path, f"w{number}", 10) for number in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    for process in running:
        process.communicate()
    added = {f"w{number}-{i}" for number in range(3) for i in range(10)}
    assert names(path) == {"unet"} | added


def test_a_kill_during_writes_loses_nothing_that_was_confirmed(path: Path) -> None:
    draw = random.Random(1)
    for turn in range(6):
        process = writer(path, f"k{turn}", 100_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(draw.uniform(0.02, 0.12))
        process.send_signal(signal.SIGKILL)
        confirmed = process.communicate()[0].splitlines()
        assert {f"k{turn}-{number}" for number in confirmed} <= names(path)


def test_a_place_where_no_file_can_be_made_is_not_taken_for_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /proc answers, and some network folders."""
    real = os.open

    def refusing(path: object, flags: int, *rest: int, **more: int) -> int:
        if str(path).endswith(".lock"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(path, flags, *rest, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "open", refusing)
    with (
        pytest.raises(KeystoreNotWritable, match="cannot lock"),
        FileStorage(tmp_path / "keystore").turn(0.2),
    ):
        pass
