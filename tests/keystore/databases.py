"""Real databases for tests: a file of SQLite, and a PostgreSQL of our own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "canary-of-the-database"
USER = "mlguard"
OPTIONS = "-c listen_addresses= -c fsync=off -c max_connections=40"


class Postgres:
    """A server on a socket in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._schemas = 0

    def url(self, *, password: bool = True, schema: str | None = None) -> str:
        """A fresh schema, or the one named."""
        if schema is None:
            self._schemas += 1
            schema = f"team{self._schemas}"
            self.execute(f"CREATE SCHEMA {schema}")
        who = f"{USER}:{PASSWORD}" if password else USER
        options = quote(f"-csearch_path={schema}")
        return f"postgresql://{who}@/postgres?host={self.folder}&options={options}"

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run SQL as the owner of the database."""
        import psycopg

        connection = psycopg.connect(
            host=str(self.folder),
            user=USER,
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server as an unprivileged user, or skip; stop it afterwards."""
    programs = _programs()
    if programs is None:
        _skip("POSTGRES", "no initdb: install the Debian package postgresql")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="mlguard-pg-") as made:
        folder = Path(made)
        word = folder / "word"
        word.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
            shutil.chown(word, "postgres")
        data = ["-D", str(folder / "data")]
        options = f"{OPTIONS} -c unix_socket_directories={folder}"
        log = ["-l", str(folder / "log")]
        _run(
            programs / "initdb",
            *data,
            *("-U", USER, "-A", "scram-sha-256", "--pwfile", str(word)),
            "--no-sync",
        )
        _run(programs / "pg_ctl", *data, *log, "-w", "-o", options, "start")
        try:
            yield Postgres(folder)
        finally:
            _run(programs / "pg_ctl", *data, "-m", "immediate", "stop")


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).parent if elsewhere else None


def _run(program: Path, *words: str) -> None:
    # PostgreSQL refuses to run as root, as a test in a container often does.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run(
        [*user, str(program), *words],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _skip(what: str, reason: str) -> None:
    if os.environ.get(f"MLGUARD_REQUIRE_{what}") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
