"""Read the URL of a database, connect to it, and name it in messages.

A password in a URL is used and never shown; ~/.pgpass and PGPASSWORD are better.
Needs the extra `sql`.
"""

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url

from keystore.errors import (
    KeystoreBusy,
    KeystoreError,
    KeystoreNotReadable,
    MalformedKeystore,
)
from keystore.system import expanded

DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite+pysqlite"}
SHOWN_QUERY = ("dbname", "host", "options", "port", "service", "user")
CONNECT_TIMEOUT_S = 10
BUSY_STATES = ("55P03", "40P01", "40001")  # SQLSTATE: no lock, deadlock, serialization
SQLITE_BUSY, SQLITE_CORRUPT, SQLITE_NOT_A_DATABASE = 5, 11, 26


class Address:
    """A database, parsed from a URL.

    Args:
        text: `sqlite:///folder/team.db` or `postgresql://user@host/database`.

    Raises:
        KeystoreNotReadable: Not such a URL, or the driver is not installed.
    """

    def __init__(self, text: str) -> None:
        try:
            url = make_url(text)
            scheme = url.drivername.partition("+")[0]
            self._url = url.set(drivername=DRIVERS[scheme])
        except (exc.ArgumentError, KeyError, ValueError):
            raise KeystoreNotReadable(  # the text may hold a password
                "the URL of the keystore is not one that mlguard knows",
                hint="write sqlite:///FILE or postgresql://USER@HOST/DATABASE",
            ) from None
        self.scheme = scheme
        self.file = self._sqlite_file() if scheme == "sqlite" else None

    @property
    def location(self) -> str:
        """The URL without a password."""
        if self.file:
            return f"sqlite:///{self.file}"
        query = {k: v for k, v in self._url.query.items() if k in SHOWN_QUERY}
        shown = URL.create(
            self.scheme,
            username=self._url.username,
            host=self._url.host,
            port=self._url.port,
            database=self._url.database,
            query=query,
        )
        return shown.render_as_string()

    def engine(self) -> sql.Engine:
        """The engine that connects; no connection outlives its use, or a fork.

        Raises:
            KeystoreNotReadable: The driver is not installed.
        """
        options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S}
        try:
            return sql.create_engine(
                self._url,
                poolclass=sql.NullPool,
                isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are ours to say
                hide_parameters=True,
                connect_args={} if self.file else options,
            )
        except ModuleNotFoundError as error:
            raise KeystoreNotReadable(
                f"the package {error.name} is not installed",
                hint="install it with `pip install '.[sql]'` in a checkout of mlguard",
            ) from None

    def refusal(self, error: exc.SQLAlchemyError, base: type[KeystoreError]) -> Any:
        """Return the refusal for a failure of the database."""
        cause = getattr(error, "orig", None) or error
        words = str(cause).strip().splitlines() or [type(cause).__name__]
        reason = words[0]
        for secret in (self._url.password, self._url.query.get("password")):
            if secret:
                reason = reason.replace(str(secret), "…")
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        busy = getattr(cause, "sqlstate", None) in BUSY_STATES or code == SQLITE_BUSY
        if busy:
            return KeystoreBusy(f"{self.location} is in use by another process")
        if code in (SQLITE_CORRUPT, SQLITE_NOT_A_DATABASE):
            return MalformedKeystore(f"{self.location}: {reason}")
        return base(f"cannot use {self.location}: {reason}")

    def _sqlite_file(self) -> Path:
        name = self._url.database
        if not name or name == ":memory:" or name.startswith("file:"):
            raise KeystoreNotReadable(
                "the URL of the keystore does not name a file",
                hint="write sqlite:///FILE, with four slashes if FILE begins with one",
            )
        path = Path(os.path.abspath(expanded(Path(name))))
        self._url = self._url.set(database=str(path))
        return path
