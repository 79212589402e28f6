"""A store in memory, for tests, examples, and services that keep the bytes elsewhere.

It has no turns, so it shows that the swap alone notices a lost race.
"""

from keystore.errors import KeystoreExists, KeystoreNotFound
from keystore.header import claimed
from keystore.storage import Check, Revision, RevisionChanged, Storage


class MemoryStorage(Storage):
    """Bytes in memory.

    Args:
        data: A store that exists already.
        location: The name to use in refusals.
    """

    def __init__(self, data: bytes | None = None, *, location: str = "memory") -> None:
        self.data = data
        self.log = b""
        self._location = location

    @property
    def location(self) -> str:
        """The name that it was given."""
        return self._location

    def exists(self) -> bool:
        """Whether it holds any bytes."""
        return self.data is not None

    def read(self) -> bytes:
        """The bytes."""
        if self.data is None:
            raise KeystoreNotFound(f"there is no keystore in {self._location}")
        return self.data

    def swap(
        self, old: Revision | None, data: bytes, check: Check, *, keep: bool = True
    ) -> None:
        """Replace the bytes if they are still those of the old revision."""
        check(data)
        if old is None:
            if self.data is not None:
                raise KeystoreExists(f"{self._location} already holds a keystore")
        elif Revision(*claimed(self.read())) != old:
            raise RevisionChanged
        self.data = data

    def put_back(self, data: bytes, check: Check) -> None:
        """Replace the bytes, whatever they are."""
        check(data)
        self.data = data

    def read_log(self, tail_bytes: int | None = None) -> bytes:
        """The log."""
        return self.log if tail_bytes is None else self.log[-tail_bytes:]

    def append_log(self, line: bytes) -> None:
        """Add a line."""
        self.log += line

    def set_log_aside(self) -> None:
        """Forget the log."""
        self.log = b""
