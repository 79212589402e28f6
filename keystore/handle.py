"""What an open keystore tells without being changed.

Reading works on the state that was opened. Knows nothing of models.
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
        """Thirty-two hex digits that name the store for ever."""
        return self._opened.state.header.store_id.hex()

    @property
    def generation(self) -> int:
        """How often the store was written, as of the state we hold."""
        return self._opened.state.header.generation

    @property
    def pinned(self) -> bool:
        """Whether the state we hold is remembered outside the store."""
        return self._opened.pinned

    def busy_timeout(self, timeout_s: float) -> None:
        """How long to wait for another process before KeystoreBusy."""
        self._opened.busy_timeout_s = timeout_s

    def names(self) -> tuple[str, ...]:
        """The names of all keys, in order."""
        return self._opened.contents.names()

    def info(self, name: str) -> Entry:
        """All that is known about a key, without its secrets.

        Raises:
            KeyNotFound: No key has that name.
        """
        return self._entry(name).without_secrets()

    def get(self, name: str, version: int | None = None) -> bytes:
        """The secret of a key: its primary version, or the one asked for.

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
        """What `of` makes of the secret of every version that has one.

        For names of secrets that may be printed. Disabled versions are named too.
        """
        versions = self._entry(name).versions
        return {v.id: of(v.secret) for v in versions if v.secret is not None}

    def check(self) -> tuple[Record, ...]:
        """Read everything there is, entry by entry, and the whole log; give the log.

        Raises:
            MalformedKeystore: An entry does not follow the specification.
            TamperedLog: The log was altered, cut or swapped.
        """
        with naming(self._opened.storage):
            for name in self.names():
                self._entry(name)
            return self.log()

    def log(self) -> tuple[Record, ...]:
        """All records of the audit log, verified.

        Of a store that came from elsewhere, those that are here.

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
        """How many records of the log are in the place that the store came from."""
        head = self._opened.contents.log
        if records:
            return records[0].n - 1
        return head.count if head else 0

    def log_unfinished(self, records: tuple[Record, ...]) -> int:
        """How many of the last records tell of a change that the store does not have.

        A write was interrupted, or the store was put back by one step.
        """
        head = self._opened.contents.log
        return sum(record.n > (head.count if head else 0) for record in records)

    def tell(self, op: str) -> None:
        """Put something in the log that changes no key, such as a backup.

        Raises:
            LogNotWritable: It could not be written; do not go on.
        """
        self._opened.tell(Deed(op=op))

    def sealed(self) -> bytes:
        """The newest state as the bytes of its file, for a backup."""
        with naming(self._opened.storage):
            data = self._opened.storage.read()
            open_state(take_apart(data), self._opened.member).contents.wipe()
            return data

    def close(self) -> None:
        """Forget the keys and the contents; our own copies of them are overwritten.

        What was asked for is the caller's. Python and the libraries below may keep
        copies for a while; docs/threat-model.md says which.
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
