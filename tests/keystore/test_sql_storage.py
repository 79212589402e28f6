"""A store in a database: SQLite always, and a real PostgreSQL where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keystore import (
    Identity,
    Keystore,
    KeystoreBusy,
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotReadable,
    KeystoreNotWritable,
    LogNotWritable,
    MalformedKeystore,
    Pins,
    RolledBackKeystore,
    TamperedLog,
    backup,
    restore,
    storage_at,
)
from keystore.storage import Revision, RevisionChanged
from tests.keystore.databases import PASSWORD, Postgres

pytest.importorskip("sqlalchemy", reason="a keystore in a database, the extra `sql`")
SECRET = b"\x07" * 32
ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from keystore import Identity, Keystore, storage_at
store = Keystore.open(storage_at(sys.argv[1]), Identity(bytes(range(32))))
store.busy_timeout(600)
for number in range(int(sys.argv[3])):
    store.add(f"{sys.argv[2]}-{number}", bytes([7]) * 32)
"""


@pytest.fixture
def store(url: str, identity: Identity) -> Keystore:
    store = Keystore.create(storage_at(url), identity)
    store.add("unet", SECRET)
    return store


def opened(url: str, identity: Identity, **options: object) -> Keystore:
    return Keystore.open(storage_at(url), identity, **options)


def test_what_is_stored_is_found_again(
    store: Keystore, url: str, identity: Identity
) -> None:
    again = opened(url, identity)
    assert (again.names(), again.get("unet")) == (("unet",), SECRET)
    assert [record.op for record in again.check()] == ["create", "add"]


def test_an_empty_database_holds_no_keystore(url: str, identity: Identity) -> None:
    assert not storage_at(url).exists()
    with pytest.raises(KeystoreNotFound, match="no keystore in"):
        opened(url, identity)


def test_a_keystore_is_never_overwritten(
    store: Keystore, url: str, identity: Identity
) -> None:
    with pytest.raises(KeystoreExists, match="already exists"):
        Keystore.create(storage_at(url), identity)


def test_a_writer_who_saw_an_older_state_is_told(store: Keystore, url: str) -> None:
    storage = storage_at(url)
    with pytest.raises(RevisionChanged):
        storage.swap(Revision(1, "0" * 64), storage.read(), lambda data: None)
    assert storage.exists()


def test_two_open_stores_lose_none_of_each_others_work(
    store: Keystore, url: str, identity: Identity
) -> None:
    opened(url, identity).add("second", SECRET)
    store.add("third", SECRET)
    assert opened(url, identity).names() == ("second", "third", "unet")


def test_what_is_read_back_wrong_is_undone_with_its_log_line(
    store: Keystore, url: str, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = store._opened.storage
    good, before = storage.read, storage.read()
    with monkeypatch.context() as patch:
        answers = iter([before, before + b"x"])
        patch.setattr(storage, "read", lambda: next(answers))
        with pytest.raises(MalformedKeystore, match="checksum does not match"):
            store.add("second", SECRET)
    assert good() == before
    assert len(opened(url, identity).log()) == 2


def test_a_log_that_lost_its_end_is_noticed(
    store: Keystore, url: str, identity: Identity
) -> None:
    storage = storage_at(url)
    with storage.turn(1):
        storage.set_log_aside()
    with pytest.raises(TamperedLog, match="lacks record 2"):
        opened(url, identity).log()


def test_an_older_state_put_back_is_noticed(
    store: Keystore, url: str, identity: Identity, tmp_path: Path
) -> None:
    pins, storage = Pins(tmp_path / "pins"), storage_at(url)
    older = storage.read()
    opened(url, identity, pins=pins).add("second", SECRET)
    storage.put_back(older, lambda data: None)
    with pytest.raises(RolledBackKeystore, match="from generation 3 to 2"):
        opened(url, identity, pins=pins)


def test_a_backup_is_a_file_and_goes_back_into_the_database(
    store: Keystore, url: str, identity: Identity, tmp_path: Path
) -> None:
    backup(store, tmp_path / "copy")
    store.add("second", SECRET)
    assert restore(storage_at(url), tmp_path / "copy", identity) == (3, 5)
    assert opened(url, identity).names() == ("unet",)
    assert opened(url, identity).check()[-1].op == "restore"


def test_the_state_before_a_destruction_is_gone(store: Keystore, url: str) -> None:
    store.add_version("unet", bytes(32))
    store.promote("unet", 2)
    store.disable("unet", 1)
    store.allow("unet", deletion=True)
    places = "SELECT place FROM mlguard_keystore"
    engine = store._opened.storage._engine
    with engine.connect() as connection:
        assert len(connection.exec_driver_sql(places).all()) == 2
    store.destroy("unet", 1)
    with engine.connect() as connection:
        assert connection.exec_driver_sql(places).scalars().all() == ["current"]


def test_a_busy_database_is_refused_after_a_while(
    store: Keystore, url: str, identity: Identity
) -> None:
    other = opened(url, identity)
    other.busy_timeout(0.05)
    with (
        storage_at(url).turn(1),
        pytest.raises(KeystoreBusy, match="in use by another process"),
    ):
        other.add("second", SECRET)
    other.add("second", SECRET)


def test_what_the_database_holds_is_sealed(store: Keystore) -> None:
    data = store._opened.storage.read()
    assert data.startswith(b"mlguard keystore 2\n")
    assert SECRET not in data


def test_processes_that_add_at_the_same_time_lose_nothing(
    store: Keystore, url: str, identity: Identity
) -> None:
    _write_together(url, writers=3, additions=4)
    assert len(opened(url, identity).names()) == 13
    assert len(opened(url, identity).log()) == 14


@pytest.mark.slow
def test_eight_processes_add_a_hundred_keys_each(
    store: Keystore, url: str, identity: Identity
) -> None:
    _write_together(url, writers=8, additions=100)
    assert len(opened(url, identity).names()) == 801
    assert len(opened(url, identity).check()) == 802


def _write_together(url: str, *, writers: int, additions: int) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, f"w{number}", str(additions)], cwd=ROOT
        )
        for number in range(writers)
    ]
    assert [process.wait(900) for process in running] == [0] * writers


def test_a_file_of_sqlite_is_private_and_no_link(
    tmp_path: Path, identity: Identity
) -> None:
    file = tmp_path / "new" / "team.db"
    old = os.umask(0)
    try:
        Keystore.create(storage_at(f"sqlite:///{file}"), identity)
    finally:
        os.umask(old)
    assert [path.name for path in file.parent.iterdir()] == ["team.db"]
    assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "link.db").symlink_to(file)
    with pytest.raises(KeystoreNotReadable, match="is a symbolic link"):
        opened(f"sqlite:///{tmp_path / 'link.db'}", identity)


def test_a_file_that_is_no_database_is_refused(
    tmp_path: Path, identity: Identity
) -> None:
    (tmp_path / "team.db").write_bytes(b"no database, for sure. " * 100)
    with pytest.raises(MalformedKeystore, match="not a database"):
        opened(f"sqlite:///{tmp_path / 'team.db'}", identity)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://root:hunter2@host/db", "not one that mlguard knows"),
        ("postgresql://a:hunter2@host:port/db", "not one that mlguard knows"),
        ("sqlite://", "does not name a file"),
        ("sqlite:///:memory:", "does not name a file"),
    ],
)
def test_a_url_we_do_not_know_is_refused_without_its_password(
    url: str, reason: str
) -> None:
    with pytest.raises(KeystoreNotReadable, match=reason) as refusal:
        storage_at(url)
    assert "hunter2" not in str(refusal.value) + refusal.value.hint


def test_the_password_of_a_url_is_in_no_words(
    postgres: Postgres, identity: Identity
) -> None:
    storage = storage_at(postgres.url())
    assert PASSWORD not in f"{storage.location} {storage!r} {vars(storage)}"
    wrong = postgres.url().replace(f"{PASSWORD}@", f"{PASSWORD}-not@")
    with pytest.raises(KeystoreNotReadable, match="authentication failed") as refusal:
        Keystore.open(storage_at(wrong), identity)
    assert PASSWORD not in str(refusal.value)


def test_a_password_of_the_environment_works(
    postgres: Postgres, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    storage = storage_at(postgres.url(password=False))
    Keystore.create(storage, identity).add("unet", SECRET)
    assert Keystore.open(storage, identity).get("unet") == SECRET


def test_a_server_that_is_not_there_is_refused(
    tmp_path: Path, identity: Identity
) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://a:hunter2@/db?host={tmp_path}"
    with pytest.raises(KeystoreNotReadable, match="cannot use postgresql://a@") as told:
        opened(url, identity)
    assert "hunter2" not in str(told.value)


def test_who_may_only_read_can_open_and_not_write(
    postgres: Postgres, identity: Identity
) -> None:
    url = postgres.url()
    Keystore.create(storage_at(url), identity).add("unet", SECRET)
    schema = url.rpartition("%3D")[2]
    for statement in (
        f"CREATE ROLE reader_{schema} LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT USAGE ON SCHEMA {schema} TO reader_{schema}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader_{schema}",
    ):
        postgres.execute(statement)
    store = opened(url.replace("mlguard:", f"reader_{schema}:"), identity)
    assert store.get("unet") == SECRET
    with pytest.raises(KeystoreNotWritable, match="permission denied"):
        store.add("second", SECRET)
    with pytest.raises((KeystoreNotWritable, LogNotWritable)):
        store.tell("export")
