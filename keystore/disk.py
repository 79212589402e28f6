"""Single steps of reading and writing a file, for `file_storage`.

It knows nothing of keystores but the length of a log's lines. Faults are raised as
OSError.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from keystore.errors import KeystoreNotReadable
from keystore.log import TAIL_BYTES
from keystore.system import CLOEXEC, NOFOLLOW, NONBLOCK

COMPARED_BYTES = 64 * 1024  # at a time; a large store is not held once more


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; links and anything but a regular file are refused."""
    # O_NONBLOCK: a named pipe at the path must not make us wait.
    flags = os.O_RDONLY | NOFOLLOW | CLOEXEC | NONBLOCK
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeystoreNotReadable(f"{path} is not a regular file")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data."""
    rest = memoryview(data)
    while rest:  # a write may be short
        rest = rest[os.write(descriptor, rest) :]


def start_writing(descriptor: int) -> None:
    """Ask the disk to start writing; only the fsync that follows is a promise."""
    if hasattr(os, "posix_fadvise"):  # not on macOS
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def holds(path: Path, data: bytes) -> bool:
    """Whether a file, read from start to end, holds exactly these bytes."""
    descriptor = os.open(path, os.O_RDONLY | NOFOLLOW | CLOEXEC)
    at = 0
    with open(descriptor, "rb", buffering=0) as file:
        while chunk := file.read(COMPARED_BYTES):
            if chunk != data[at : at + len(chunk)]:
                return False
            at += len(chunk)
    return at == len(data)


def cut_torn_line(log: int) -> int:
    """Truncate a file after its last whole line, and go to its end."""
    size = os.lseek(log, 0, os.SEEK_END)
    tail = os.pread(log, TAIL_BYTES, max(0, size - TAIL_BYTES))
    whole = size - len(tail.rpartition(b"\n")[2])
    os.ftruncate(log, whole)
    os.lseek(log, whole, os.SEEK_SET)
    return whole
