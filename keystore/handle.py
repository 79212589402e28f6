"""Read an open keystore without changing it.

Reading works on the state that was opened. The room knows nothing of models.
docs/spec/keystore-v2.md.
"""

from collections.abc import Callable
from typing import NoReturn, Self

from keystore.entries import Entry
from keystore.errors import KeyNotUsable
from keystore.header import take_apart
from keystore.log import Deed, Record
from keystore.opened import OpenStore, naming, open_state


class Handle:
    """An open store, to be read. `Keystore` adds what changes it."""

    def __init__(self, opened: OpenStore) -> None:
        self._opened = opened

    @property
    def location(self) -> str:
        """Where the store is, in words."""
        return self._opened.storage.location

    @property
    def store_id(self) -> str:
        """Thirty-two hex digits that name the store for its whole life."""
        return self._opened.state.header.store_id.hex()

    @property
    def generation(self) -> int:
        """How often the store had been written when it was opened."""
        return self._opened.state.header.generation

    @property
    def pinned(self) -> bool:
        """Whether a pin outside the store remembers this state."""
        return self._opened.pinned

    def busy_timeout(self, timeout_s: float) -> None:
        """How long to wait for another process before KeystoreBusy."""
        self._opened.busy_timeout_s = timeout_s

    def names(self) -> tuple[str, ...]:
        """Return the names of all keys, in order."""
        return self._opened.contents.names()

    def info(self, name: str) -> Entry:
        """Return everything known about a key, without its secrets.

        Raises:
            KeyNotFound: No key has that name.
        """
        return self._entry(name).without_secrets()

    def get(self, name: str, version: int | None = None) -> bytes:
        """Return the secret of a key: its primary version, or the one asked for.

        Raises:
            KeyNotFound: No key has that name, or it has no such version.
            KeyNotUsable: The version is disabled or destroyed.
        """
        found = self._entry(name).version(version)
        if found.state != "enabled" or found.secret is None:
            raise KeyNotUsable(
                f"{self.location}: version {found.id} of {name} is {found.state}"
            )
        return found.secret

    def public_ids(self, name: str, of: Callable[[bytes], str]) -> dict[int, str]:
        """Return a public id, made by `of`, for each version that has a secret.

        The ids may be printed. Disabled versions have one too.
        """
        return self.info_and_ids(name, of)[1]

    def info_and_ids(
        self, name: str, of: Callable[[bytes], str]
    ) -> tuple[Entry, dict[int, str]]:
        """Return what `info` and `public_ids` give, for one reading of the entry."""
        entry = self._entry(name)
        ids = {v.id: of(v.secret) for v in entry.versions if v.secret is not None}
        return entry.without_secrets(), ids

    def check(self) -> tuple[Record, ...]:
        """Read and check every entry and the whole log; return the log.

        Raises:
            MalformedKeystore: An entry does not follow the specification.
            TamperedLog: The log was altered, cut or swapped.
        """
        with naming(self._opened.storage):
            for name in self.names():
                self._entry(name)
            return self.log()

    def log(self) -> tuple[Record, ...]:
        """Return all records of the audit log, verified.

        For a store that was moved, only the records in its present place.

        Raises:
            TamperedLog: The log was altered, cut or swapped.
            RolledBackKeystore: The log is ahead of the store, so the store is older.
        """
        opened = self._opened
        with naming(opened.storage):
            # The log runs ahead of the store: so the store is read before, for what
            # the log must have, and after, for what it may have at most.
            before = opened.newest()
            lines = opened.storage.read_log()
            after = opened.newest()
            return tuple(
                after.log_key().records(
                    lines,
                    before.contents.log,
                    generation=after.header.generation,
                    elsewhere=opened.elsewhere,
                )
            )

    def log_elsewhere(self, records: tuple[Record, ...]) -> int:
        """How many records of the log stayed in the place that the store came from."""
        head = self._opened.contents.log
        if records:
            return records[0].n - 1
        return head.count if head else 0

    def log_unfinished(self, records: tuple[Record, ...]) -> int:
        """How many of the last records describe a change that the store lacks.

        A write was interrupted, or the store was put back by one step.
        """
        head = self._opened.contents.log
        return sum(record.n > (head.count if head else 0) for record in records)

    def tell(self, op: str) -> None:
        """Log an action that changes no key, such as a backup.

        Raises:
            LogNotWritable: It could not be written; do not go on.
        """
        self._opened.tell(Deed(op=op))

    def sealed(self) -> bytes:
        """Return the newest state as the bytes of its file, for a backup."""
        with naming(self._opened.storage):
            data = self._opened.storage.read()
            open_state(take_apart(data), self._opened.member).contents.wipe()
            return data

    def close(self) -> None:
        """Forget the keys and the contents, and overwrite our own copies of them.

        Secrets already returned belong to the caller. Python and the libraries below
        may keep copies for a while; docs/threat-model.md says which.
        """
        self._opened.close()

    def _entry(self, name: str) -> Entry:
        with naming(self._opened.storage):
            return self._opened.contents.entry(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Keystore({self.location!r}, generation={self.generation})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keystore is never pickled; open it again")
