"""A store in a database, for a team: SQLite or PostgreSQL, by a URL.

The server sees the sealed file and the audit log, and no secret. A change and its line
of the log are one transaction. Needs the extra `sql`. docs/spec/keystore-v1.md, section
10.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from keystore.errors import (
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotReadable,
    KeystoreNotWritable,
    LogNotWritable,
)
from keystore.header import MAX_FILE_BYTES, claimed
from keystore.sql_address import Address
from keystore.storage import Check, Revision, RevisionChanged, Storage
from keystore.system import CLOEXEC, NOFOLLOW

FILE_MODE = 0o600
FOLDER_MODE = 0o700
TURN_S = 10.0
CURRENT, PREVIOUS = "current", "previous"
TAIL_LINES = 4  # callers that ask for a tail want the last line

METADATA = sql.MetaData()
STATES = sql.Table(
    "mlguard_keystore",
    METADATA,
    sql.Column("place", sql.String(64), primary_key=True),
    sql.Column("generation", sql.BigInteger, nullable=False),
    sql.Column("checksum", sql.String(64), nullable=False),
    sql.Column("data", sql.LargeBinary, nullable=False),
)
LOG = sql.Table(
    "mlguard_keystore_log",
    METADATA,
    sql.Column(
        "id",
        sql.BigInteger().with_variant(sql.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sql.Column("log", sql.String(64), nullable=False),
    sql.Column("line", sql.LargeBinary, nullable=False),
)


class SqlStorage(Storage):
    """Two tables of a database; one keystore for each database or schema.

    Args:
        url: `sqlite:///folder/team.db` or `postgresql://user@host/database`.

    Raises:
        KeystoreNotReadable: Not such a URL, or the driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._address = Address(url)
        self._engine = self._address.engine()
        self._turn: Connection | None = None
        self._uncommitted = False

    @property
    def location(self) -> str:
        """The URL without a password."""
        return self._address.location

    def exists(self) -> bool:
        """Whether there is a store."""
        return self._select(STATES.c.generation, STATES.c.place == CURRENT) != []

    def read(self) -> bytes:
        """Return the sealed file."""
        found = self._select(STATES.c.data, STATES.c.place == CURRENT)
        if not found:
            raise KeystoreNotFound(f"there is no keystore in {self.location}")
        return bytes(found[0])[: MAX_FILE_BYTES + 1]

    def swap(
        self, old: Revision | None, data: bytes, check: Check, *, keep: bool = True
    ) -> None:
        """Replace the row if it is still the old one, after reading it back.

        Copies that the server makes are out of reach.
        """
        with self._writing() as connection:
            if old is not None:
                self._rename_state(connection, old)
            elif self.exists():
                raise KeystoreExists(f"{self.location} already holds a keystore")
            if not keep:
                connection.execute(sql.delete(STATES).where(STATES.c.place != CURRENT))
            self._put(connection, data, check)

    def put_back(self, data: bytes, check: Check) -> None:
        """Replace the row, whatever it is; it stays under another name."""
        with self._writing() as connection:
            rows = sql.update(STATES).where(STATES.c.place == CURRENT)
            connection.execute(rows.values(place=_aside("replaced")))
            self._put(connection, data, check)

    def read_log(self, tail_bytes: int | None = None) -> bytes:
        """Return the lines of the log, or the last ones."""
        limit = None if tail_bytes is None else TAIL_LINES
        lines = self._select(LOG.c.line, LOG.c.log == CURRENT, LOG.c.id.desc(), limit)
        return b"".join(bytes(line) for line in reversed(lines))

    def append_log(self, line: bytes) -> None:
        """Add a line; it is committed with the swap, or at the end of our turn."""
        try:
            with self._writing() as connection:
                connection.execute(sql.insert(LOG).values(log=CURRENT, line=line))
        except KeystoreNotWritable as refusal:
            raise LogNotWritable(f"the audit log: {refusal}") from None

    def set_log_aside(self) -> None:
        """Give the log's lines another name."""
        with self._writing() as connection:
            lines = sql.update(LOG).where(LOG.c.log == CURRENT)
            connection.execute(lines.values(log=_aside("log")))

    @contextlib.contextmanager
    def turn(self, timeout_s: float) -> Iterator[Connection]:
        """Begin the one transaction that may write; a failure in it is rolled back."""
        if self._turn is not None:  # a turn within our turn
            yield self._turn
            return
        try:
            self._make_file()
            with self._engine.connect() as connection:
                self._begin(connection, timeout_s)
                self._turn, self._uncommitted = connection, True
                try:
                    yield connection
                    self._commit(connection)
                finally:
                    self._turn = None
                    if self._uncommitted:
                        with contextlib.suppress(exc.SQLAlchemyError):
                            connection.exec_driver_sql("ROLLBACK")
        except exc.SQLAlchemyError as error:
            raise self._address.refusal(error, KeystoreNotWritable) from None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.turn(TURN_S) as connection:
            try:
                if not self._uncommitted:
                    self._begin(connection, TURN_S)
                    self._uncommitted = True
                yield connection
            except exc.SQLAlchemyError as error:
                raise self._address.refusal(error, KeystoreNotWritable) from None

    def _begin(self, connection: Connection, timeout_s: float) -> None:
        """Wait for the write lock, which the database releases if we die."""
        milliseconds = max(1, int(1000 * timeout_s))
        if self._address.scheme == "sqlite":
            for pragma in (
                f"busy_timeout = {milliseconds}",
                "synchronous = EXTRA",  # also the folder, as for a file
                "secure_delete = ON",  # what is destroyed is overwritten
            ):
                connection.exec_driver_sql(f"PRAGMA {pragma}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            METADATA.create_all(connection)
            return
        # Two first writers can both find no table, and one is told so.
        with contextlib.suppress(exc.IntegrityError, exc.ProgrammingError):
            METADATA.create_all(connection)
        connection.exec_driver_sql("BEGIN")
        for statement in (
            f"SET LOCAL lock_timeout = {milliseconds}",
            # A server may be set to lose the last moments, but never what we confirm.
            "SELECT set_config('synchronous_commit', 'on', true) "
            "WHERE current_setting('synchronous_commit') = 'off'",
            f"LOCK TABLE {STATES.name} IN EXCLUSIVE MODE",
        ):
            connection.exec_driver_sql(statement)

    def _commit(self, connection: Connection) -> None:
        if self._uncommitted:
            connection.exec_driver_sql("COMMIT")
            self._uncommitted = False

    def _rename_state(self, connection: Connection, old: Revision) -> None:
        """Make the old state the previous one, if it is still the current one."""
        connection.execute(sql.delete(STATES).where(STATES.c.place == PREVIOUS))
        found = connection.execute(
            sql.update(STATES)
            .where(
                STATES.c.place == CURRENT,
                STATES.c.generation == old.generation,
                STATES.c.checksum == old.checksum,
            )
            .values(place=PREVIOUS)
        )
        if found.rowcount != 1:
            connection.exec_driver_sql("ROLLBACK")
            self._uncommitted = False
            raise RevisionChanged

    def _put(self, connection: Connection, data: bytes, check: Check) -> None:
        """Insert the new state, read it back, and commit it only if it is good."""
        generation, checksum = claimed(data)
        connection.execute(
            sql.insert(STATES).values(
                place=CURRENT, generation=generation, checksum=checksum, data=data
            )
        )
        check(self.read())
        self._commit(connection)

    def _select(
        self,
        column: sql.Column[Any],
        where: sql.ColumnElement[bool],
        order: sql.ColumnElement[Any] | None = None,
        limit: int | None = None,
    ) -> list[Any]:
        """Return the values of a column; none where there is no table yet."""
        query = sql.select(column).where(where).limit(limit)
        query = query if order is None else query.order_by(order)
        file = self._address.file
        if file is not None and not _is_file(file):
            return []
        try:
            with contextlib.ExitStack() as stack:
                connection = self._turn or stack.enter_context(self._engine.connect())
                if not sql.inspect(connection).has_table(column.table.name):
                    return []
                return list(connection.execute(query).scalars())
        except exc.SQLAlchemyError as error:
            raise self._address.refusal(error, KeystoreNotReadable) from None

    def _make_file(self) -> None:
        file = self._address.file
        if file is None or _is_file(file):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC
        try:
            file.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            os.close(os.open(file, flags, FILE_MODE))
        except FileExistsError:
            pass  # another writer was first
        except OSError as error:
            raise KeystoreNotWritable(
                f"cannot write {file}: {error.strerror}"
            ) from None


def _is_file(path: Path) -> bool:
    """Whether there is a file; links are refused as everywhere."""
    if path.is_symlink():
        raise KeystoreNotReadable(
            f"{path} is a symbolic link", hint="name the file itself"
        )
    return path.exists()


def _aside(what: str) -> str:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{what}-{stamp}-{os.urandom(2).hex()}"
