"""Where the bytes of a store live: read them, or swap them for newer ones.

A swap names the revision it replaces and happens completely or not at all. A
storage knows nothing of keys; what it holds is sealed.
docs/spec/keystore-v1.md and docs/spec/keystore-v2.md, section 7.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

Check = Callable[[bytes], None]


class Revision(NamedTuple):
    """Which state of a store: its generation, and the checksum of its bytes."""

    generation: int
    checksum: str


class RevisionChanged(Exception):
    """Someone else wrote first. The keystore tries again; never leaves it."""


class Storage(ABC):
    """A place for one store."""

    @property
    @abstractmethod
    def location(self) -> str:
        """The place in words, for prompts and refusals. No secret in it."""

    def doubts(self) -> tuple[str, ...]:
        """What the user should know about who else can change the place, in words."""
        return ()

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is anything in the place, good or damaged.

        Raises:
            KeystoreNotReadable: The place cannot be reached.
        """

    @abstractmethod
    def read(self) -> bytes:
        """The whole store as it is now.

        Raises:
            KeystoreNotFound: There is no store.
            KeystoreNotReadable: There is something, but it cannot be read.
        """

    def read_start(self, size_bytes: int) -> bytes:
        """The first bytes of the store as it is now. Raises as `read`."""
        return self.read()[:size_bytes]

    @abstractmethod
    def swap(
        self, old: Revision | None, data: bytes, check: Check, *, keep: bool = True
    ) -> None:
        """Replace the state `old` by `data`, or create it if `old` is None.

        Args:
            old: The revision that was read.
            data: The new bytes.
            check: Raises when bytes are not a good store. What is put in the place
                is read back, and is what was checked.
            keep: Whether the old state is kept beside. If not, all former states are
                gone before the new one is there: they hold what is taken away.

        Raises:
            RevisionChanged: The store is no longer at `old`.
            KeystoreExists: `old` is None and there is a store.
            KeystoreNotWritable: The new state could not be saved.
        """

    @abstractmethod
    def put_back(self, data: bytes, check: Check) -> None:
        """Replace whatever is there, good or damaged; what was there is kept aside.

        Raises:
            KeystoreNotWritable: The new state could not be saved.
        """

    @abstractmethod
    def read_log(self, tail_bytes: int | None = None) -> bytes:
        """The audit log, or its last bytes; empty if there is none.

        Raises:
            KeystoreNotReadable: There is one, but it cannot be read.
        """

    @abstractmethod
    def append_log(self, line: bytes) -> None:
        """Add one line for good. Called in our turn, before the swap it tells of.

        Raises:
            LogNotWritable: It could not be saved.
        """

    @abstractmethod
    def set_log_aside(self) -> None:
        """Start an empty log; one that is there belongs to an earlier store.

        Raises:
            LogNotWritable: It could not be moved.
        """

    def turn(self, timeout_s: float) -> AbstractContextManager[object]:
        """Wait for our turn to write. Saves retries; correctness is swap's job.

        Raises:
            KeystoreBusy: Our turn did not come in time.
        """
        return nullcontext()
