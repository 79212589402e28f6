"""Where the bytes of a store live: read them, or swap them for newer ones.

A swap names the revision it replaces and happens completely or not at all. A storage
knows nothing of keys; its bytes are sealed. docs/spec/keystore-v1.md and
docs/spec/keystore-v2.md, section 7.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

Check = Callable[[bytes], None]


class Revision(NamedTuple):
    """A state of a store, named by its generation and the checksum of its bytes."""

    generation: int
    checksum: str


class RevisionChanged(Exception):
    """Someone else wrote first. The keystore catches it and tries again."""


class Storage(ABC):
    """A place for one store."""

    @property
    @abstractmethod
    def location(self) -> str:
        """The place in words, for prompts and refusals. No secret in it."""

    def doubts(self) -> tuple[str, ...]:
        """List, in words, who else can change the place."""
        return ()

    @abstractmethod
    def exists(self) -> bool:
        """Whether anything is in the place, good or damaged.

        Raises:
            KeystoreNotReadable: The place cannot be reached.
        """

    @abstractmethod
    def read(self) -> bytes:
        """Return the whole store as it is now.

        Raises:
            KeystoreNotFound: There is no store.
            KeystoreNotReadable: There is something, but it cannot be read.
        """

    def read_start(self, size_bytes: int) -> bytes:
        """Return the first bytes of the store as it is now. Raises as `read`."""
        return self.read()[:size_bytes]

    @abstractmethod
    def swap(
        self, old: Revision | None, data: bytes, check: Check, *, keep: bool = True
    ) -> None:
        """Replace the state `old` by `data`, or create it if `old` is None.

        Args:
            old: The revision that was read.
            data: The new bytes.
            check: Raises when bytes are not a good store. It runs on the bytes read
                back from the place.
            keep: Whether the old state is kept beside. If not, all former states are
                removed before the new one is there, because they hold what is taken
                away.

        Raises:
            RevisionChanged: The store is no longer at `old`.
            KeystoreExists: `old` is None and there is a store.
            KeystoreNotWritable: The new state could not be saved.
        """

    @abstractmethod
    def put_back(self, data: bytes, check: Check) -> None:
        """Replace whatever is there, good or damaged, and keep it aside.

        Raises:
            KeystoreNotWritable: The new state could not be saved.
        """

    @abstractmethod
    def read_log(self, tail_bytes: int | None = None) -> bytes:
        """Return the audit log, or its last bytes; empty if there is none.

        Raises:
            KeystoreNotReadable: There is one, but it cannot be read.
        """

    @abstractmethod
    def append_log(self, line: bytes) -> None:
        """Add one line for good. Called in our turn, before the swap that it describes.

        Raises:
            LogNotWritable: It could not be saved.
        """

    @abstractmethod
    def set_log_aside(self) -> None:
        """Start an empty log; an existing one belongs to an earlier store.

        Raises:
            LogNotWritable: It could not be moved.
        """

    def turn(self, timeout_s: float) -> AbstractContextManager[object]:
        """Wait for our turn to write. This saves retries; correctness is swap's job.

        Raises:
            KeystoreBusy: Our turn did not come in time.
        """
        return nullcontext()
