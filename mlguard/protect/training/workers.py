"""Explain the death of a process that makes batches."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlguard.errors import RunError

SHARED_MEMORY = Path("/dev/shm")
# torch's messages for a dead worker, or for a batch without shared memory.
DIED = re.compile(
    r"DataLoader worker \(pid[^)]*\).*(killed by signal|exited unexpectedly)", re.S
)
NO_ROOM = re.compile(r"shared memory|unable to (mmap|write to file|resize)|shm", re.I)
KILLED = re.compile(r"killed by signal: (Killed|Terminated)")


@contextmanager
def living_workers() -> Iterator[None]:
    """Turn the death of a process that makes batches into a refusal.

    Raises:
        RunError: One died, with the most likely cause: batches travel through shared
            memory, of which a container has 64 MB by default; or there is too little
            memory, and the system killed the process.
    """
    try:
        yield
    except RuntimeError as error:
        said = f"{error} {error.__cause__ or ''}"  # how, and of what
        if not DIED.search(said) and not NO_ROOM.search(said):
            raise
        if KILLED.search(said):
            raise RunError(
                "a process that makes batches was killed: there is too little memory, "
                "or somebody killed it",
                hint="use fewer with --set data.workers=N, or none with 0; resume "
                "with --resume",
            ) from None
        raise RunError(
            "a process that makes batches died. Batches travel through shared memory"
            f"{_room()}, and it is probably too small",
            hint="resume with --resume and --set data.workers=0, or start the "
            "container with more shared memory, for docker --shm-size=2g",
        ) from None


def _room() -> str:
    """Return the size of the shared memory, in brackets."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return ""
    return f" ({SHARED_MEMORY}, {found.f_blocks * found.f_frsize / 1e6:.0f} MB)"
