"""A store in one file: locked, atomic, verified writes.

After a crash at any moment the file is the old state or the new one.
docs/spec/keystore-v1.md, section 7.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from keystore.errors import (
    KeystoreBusy,
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotReadable,
    KeystoreNotWritable,
)
from keystore.header import MAX_FILE_BYTES, take_apart
from keystore.storage import Check, Revision, RevisionChanged, Storage

FILE_MODE = 0o600
FOLDER_MODE = 0o700
SWAP_TIMEOUT_S = 10.0
POLL_S = 0.005  # between tries for the lock; a write takes about as long


class FileStorage(Storage):
    """A file, with `.lock` and `.bak` beside it."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.abspath(path.expanduser()))
        self._backup = self._path.with_name(self._path.name + ".bak")
        self._lock = FileLock(f"{self._path}.lock", mode=FILE_MODE)

    @property
    def location(self) -> str:
        """The path."""
        return str(self._path)

    def read(self) -> bytes:
        """The bytes of the file; links and things that are no files are refused."""
        # O_NONBLOCK: a named pipe at the path must not make us wait.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self._path, flags)
        except (FileNotFoundError, NotADirectoryError):
            raise KeystoreNotFound(f"there is no keystore at {self._path}") from None
        except OSError as error:
            raise self._not_readable(error) from None
        try:
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise KeystoreNotReadable(f"{self._path} is not a regular file")
                return file.read(MAX_FILE_BYTES + 1)  # one more, so that it is noticed
        except OSError as error:
            raise self._not_readable(error) from None

    def swap(self, old: Revision | None, data: bytes, check: Check) -> None:
        """Write a new file beside the old one, prove it good, then rename."""
        try:
            if old is None:
                self._path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            with self.turn(SWAP_TIMEOUT_S):
                self._compare(old)
                self._remove_leftovers()
                with self._new_file(data) as temporary:
                    check(_read_back(temporary))
                    if old is not None:
                        self._keep_backup()
                    os.replace(temporary, self._path)
                self._sync_folder()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise KeystoreNotWritable(f"cannot write {self._path}: {reason}") from None

    @contextlib.contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock file; the kernel drops it if we die."""
        try:
            self._lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
        except Timeout:
            raise KeystoreBusy(
                f"{self._path} is in use by another process (waited {timeout_s:g} s)"
            ) from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise KeystoreNotWritable(f"cannot lock {self._path}: {reason}") from None
        try:
            yield
        finally:
            self._lock.release()

    def _compare(self, old: Revision | None) -> None:
        if old is None:
            if os.path.lexists(self._path):
                raise KeystoreExists(f"{self._path} already exists")
            return
        frame = take_apart(self.read())
        if Revision(frame.header.generation, frame.checksum) != old:
            raise RevisionChanged

    def _remove_leftovers(self) -> None:
        # We hold the lock, so a temporary file is one that a crash left behind.
        for stray in self._path.parent.glob(f".{self._path.name}.*.tmp"):
            stray.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _new_file(self, data: bytes) -> Iterator[Path]:
        temporary = self._temporary()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, FILE_MODE)
        try:
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            yield temporary
        finally:
            # Gone after the rename; still there only if something failed.
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _keep_backup(self) -> None:
        link = self._temporary()
        try:
            os.link(self._path, link, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP):
                raise
            with self._new_file(self.read()) as copy:  # no hard links here
                os.replace(copy, self._backup)
            return
        try:
            os.replace(link, self._backup)
        finally:
            # rename() does nothing when both names are already the same file.
            with contextlib.suppress(OSError):
                os.unlink(link)

    def _sync_folder(self) -> None:
        try:
            descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise KeystoreNotWritable(
                f"{self._path} was written, but its folder was not: {error.strerror}",
                hint="the change is there now; it may be lost if the machine stops",
            ) from None

    def _temporary(self) -> Path:
        return self._path.with_name(f".{self._path.name}.{os.urandom(6).hex()}.tmp")

    def _not_readable(self, error: OSError) -> KeystoreNotReadable:
        if error.errno == errno.ELOOP:
            return KeystoreNotReadable(
                f"{self._path} is a symbolic link", hint="name the file itself"
            )
        return KeystoreNotReadable(f"cannot read {self._path}: {error.strerror}")


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # a write may be short
        rest = rest[os.write(descriptor, rest) :]


def _read_back(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read()
