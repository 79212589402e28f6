"""The audit log: complete, in order, and worthless to forge."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from keystore import (
    Identity,
    Keystore,
    KeystoreNotReadable,
    KeystoreNotWritable,
    LogNotWritable,
    MemoryStorage,
    TamperedLog,
)

SECRET = b"\x07" * 32


@pytest.fixture
def storage(identity: Identity) -> MemoryStorage:
    """A store with a log of four records."""
    storage = MemoryStorage()
    store = Keystore.create(storage, identity)
    store.add("unet", SECRET)
    store.add_version("unet", SECRET)
    store.promote("unet", 2)
    return storage


def test_every_change_is_told_in_order(
    storage: MemoryStorage, identity: Identity
) -> None:
    records = Keystore.open(storage, identity).log()
    assert [(each.n, each.op, each.key) for each in records] == [
        (1, "create", ""),
        (2, "add", "unet"),
        (3, "rotate", "unet"),
        (4, "promote", "unet"),
    ]
    assert [each.generation for each in records] == [1, 2, 3, 4]
    assert all("@" in each.user for each in records)


def test_an_export_is_told_though_it_changes_nothing(
    storage: MemoryStorage, identity: Identity
) -> None:
    store = Keystore.open(storage, identity)
    store.allow("unet", exportable=True)
    store.export("unet")
    assert [each.op for each in store.log()][-2:] == ["allow", "export"]


def test_the_log_holds_no_secret(storage: MemoryStorage) -> None:
    assert SECRET.hex().encode() not in storage.log


def edited(line: bytes, **changes: object) -> bytes:
    fields = json.loads(line) | changes
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"


FORGERIES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a record removed": lambda lines: [lines[0], *lines[2:]],
    "the first record removed": lambda lines: lines[1:],
    "the last record removed": lambda lines: lines[:-1],
    "all records removed": lambda lines: [],
    "two records swapped": lambda lines: [lines[0], lines[2], lines[1], lines[3]],
    "a record twice": lambda lines: [*lines, lines[-1]],
    "another operation": lambda lines: [edited(lines[0], op="add"), *lines[1:]],
    "another time": lambda lines: [
        edited(lines[0], time="2020-01-01T00:00:00Z"),
        *lines[1:],
    ],
    "another user": lambda lines: [*lines[:3], edited(lines[3], user="you@there")],
    "a line that is no record": lambda lines: [*lines, b"hello\n"],
    "a field too many": lambda lines: [*lines[:3], edited(lines[3], x=1)],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_log_is_refused(
    storage: MemoryStorage, identity: Identity, forgery: str
) -> None:
    store = Keystore.open(storage, identity)
    lines = storage.log.splitlines(keepends=True)
    storage.log = b"".join(FORGERIES[forgery](lines))
    with pytest.raises(TamperedLog, match=r"memory: .*record"):
        store.log()


def test_an_untouched_log_is_not_refused(
    storage: MemoryStorage, identity: Identity
) -> None:
    """The twin of the test above."""
    storage.log = b"".join(storage.log.splitlines(keepends=True))
    assert len(Keystore.open(storage, identity).log()) == 4


def test_the_log_of_another_store_is_refused(
    storage: MemoryStorage, identity: Identity
) -> None:
    other = MemoryStorage()
    Keystore.create(other, identity)
    storage.log = other.log
    with pytest.raises(TamperedLog, match="is another keystore's"):
        Keystore.open(storage, identity).log()


def test_a_lost_log_goes_on_and_the_gap_stays_visible(
    storage: MemoryStorage, identity: Identity
) -> None:
    store = Keystore.open(storage, identity)
    storage.log = b""
    store.add("second", SECRET)
    assert json.loads(storage.log)["n"] == 5
    with pytest.raises(TamperedLog, match="expected record 1 of the log, found 5"):
        store.log()


def test_a_change_that_failed_after_it_was_told_does_not_break_the_log(
    storage: MemoryStorage, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise KeystoreNotWritable("no space")

    store = Keystore.open(storage, identity)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "swap", full)
        with pytest.raises(KeystoreNotWritable, match="no space"):
            store.add("second", SECRET)
    store.add("third", SECRET)
    assert [(each.key, each.generation) for each in store.log()][-2:] == [
        ("second", 5),
        ("third", 5),
    ]
    assert store.names() == ("third", "unet")


@pytest.mark.parametrize("verb", ["add", "export", "destroy", "backup"])
def test_nothing_happens_when_the_log_cannot_be_written(
    path: Path, identity: Identity, tmp_path: Path, verb: str
) -> None:
    store = Keystore.open(path, identity)
    store.allow("unet", exportable=True, deletion=True)
    store.disable("unet", 1)
    log, before = path.with_name("keystore.mlgk.log"), path.read_bytes()
    log.unlink()
    log.mkdir()
    acts: dict[str, Callable[[], object]] = {
        "add": lambda: store.add("second", SECRET),
        "export": lambda: store.export("unet"),
        "destroy": lambda: store.destroy("unet", 1),
        "backup": lambda: store.tell("backup"),
    }
    with pytest.raises((LogNotWritable, KeystoreNotReadable), match=r"mlgk\.log"):
        acts[verb]()
    assert path.read_bytes() == before


def test_a_line_torn_by_a_crash_is_cut_off(path: Path, identity: Identity) -> None:
    log = path.with_name("keystore.mlgk.log")
    log.write_bytes(log.read_bytes() + b'{"torn')
    store = Keystore.open(path, identity)
    assert len(store.log()) == 2
    store.add("second", SECRET)
    assert len(store.log()) == 3
    assert b"torn" not in log.read_bytes()


def test_a_new_store_does_not_go_on_with_the_log_of_an_old_one(
    path: Path, identity: Identity
) -> None:
    path.unlink()
    store = Keystore.create(path, identity)
    assert [each.op for each in store.log()] == ["create"]
    assert len(list(path.parent.glob("keystore.mlgk.log-*"))) == 1


def test_a_store_that_is_there_keeps_its_log_when_creating_is_refused(
    path: Path, identity: Identity
) -> None:
    with pytest.raises(Exception, match="already exists"):
        Keystore.create(path, identity)
    assert len(Keystore.open(path, identity).log()) == 2
