"""A store in one file: locked, atomic, verified writes.

After a crash at any moment the file is the old state or the new one.
docs/spec/keystore-v1.md, section 7.
"""

import contextlib
import errno
import glob
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from keystore.disk import (
    cut_torn_line,
    holds,
    open_regular,
    start_writing,
    write_all,
)
from keystore.errors import (
    KeystoreBusy,
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotReadable,
    KeystoreNotWritable,
    LogNotWritable,
)
from keystore.header import CLAIM_BYTES, MAX_FILE_BYTES, claimed
from keystore.storage import Check, Revision, RevisionChanged, Storage
from keystore.system import CLOEXEC, NOFOLLOW, POSIX, expanded, user_id

FILE_MODE = 0o600
FOLDER_MODE = 0o700
SWAP_TIMEOUT_S = 10.0
POLL_S = 0.005  # between tries for the lock; a write takes about as long


class FileStorage(Storage):
    """A file, with `.lock`, `.bak` and `.log` beside it."""

    def __init__(self, path: Path) -> None:
        if not POSIX:
            raise KeystoreNotReadable(
                "a keystore in a file needs a POSIX system: its locks, its rights, and "
                "links that are not followed",
                hint="on Windows use WSL; identity files and issued bundles work there "
                "without a keystore",
            )
        # By one name, whatever links lead there: a pin is found by it.
        given = Path(os.path.abspath(expanded(path)))
        if not given.name:
            raise KeystoreNotReadable(
                f"{given} is not a regular file",
                hint="name the keystore's file, not its folder",
            )
        self._path = Path(os.path.realpath(given.parent)) / given.name
        self._backup = self._path.with_name(self._path.name + ".bak")
        self._log = self._path.with_name(self._path.name + ".log")
        self._lock = FileLock(f"{self._path}.lock", mode=FILE_MODE)

    @property
    def location(self) -> str:
        """The path."""
        return str(self._path)

    def doubts(self) -> tuple[str, ...]:
        """List who else could replace the file."""
        try:
            found, folder = os.stat(self._path), os.stat(self._path.parent)
        except OSError:
            return ()
        words = []
        if found.st_uid not in (user_id(), 0):
            words.append(f"it belongs to another user (uid {found.st_uid})")
        if found.st_mode & 0o002:
            words.append("every user of this machine can write to it")
        if folder.st_mode & 0o002 and not folder.st_mode & stat.S_ISVTX:
            words.append("every user of this machine can replace it in its folder")
        if folder.st_uid not in (user_id(), 0):
            words.append(
                f"another user (uid {folder.st_uid}) owns its folder and can replace it"
            )
        return tuple(words)

    def exists(self) -> bool:
        """Whether something is at the path."""
        return os.path.lexists(self._path)

    def read(self) -> bytes:
        """Return the bytes of the file; anything but a regular file is refused."""
        return self.read_start(MAX_FILE_BYTES + 1)  # one more, so that it is noticed

    def read_start(self, size_bytes: int) -> bytes:
        """Return the first bytes of the file."""
        try:
            with open_regular(self._path) as file:
                # Not more than there is: read() makes room for all it is told.
                return file.read(min(size_bytes, os.fstat(file.fileno()).st_size))
        except (FileNotFoundError, NotADirectoryError):
            raise KeystoreNotFound(f"there is no keystore at {self._path}") from None
        except OSError as error:
            raise _not_readable(self._path, error) from None

    def swap(
        self, old: Revision | None, data: bytes, check: Check, *, keep: bool = True
    ) -> None:
        """Write a new file beside the old one, read it back, then rename it."""
        try:
            with self.turn(SWAP_TIMEOUT_S):
                self._compare(old)
                self._remove_leftovers()
                with self._new_file(data, check) as temporary:
                    if not keep:
                        self._drop_former()
                    elif old is not None:
                        self._keep(self._backup)
                    os.replace(temporary, self._path)
                self._sync_folder()
        except OSError as error:
            raise self._not_writable(error) from None

    def put_back(self, data: bytes, check: Check) -> None:
        """Write a new file and rename it over whatever is there."""
        try:
            with self.turn(SWAP_TIMEOUT_S):
                self._remove_leftovers()
                with self._new_file(data, check) as temporary:
                    if os.path.lexists(self._path):
                        self._keep(self._aside("replaced"))
                    os.replace(temporary, self._path)
                self._sync_folder()
        except OSError as error:
            raise self._not_writable(error) from None

    def read_log(self, tail_bytes: int | None = None) -> bytes:
        """Return the lines of `.log`."""
        try:
            with open_regular(self._log) as file:
                if tail_bytes is not None:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - tail_bytes))
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            raise _not_readable(self._log, error) from None

    def append_log(self, line: bytes) -> None:
        """Add a line to `.log`, after cutting off what a crash left torn."""
        flags = os.O_RDWR | os.O_CREAT | NOFOLLOW | CLOEXEC
        try:
            log = os.open(self._log, flags, FILE_MODE)
            try:
                whole = cut_torn_line(log)
                try:
                    write_all(log, line)
                    os.fsync(log)
                except OSError:
                    os.ftruncate(log, whole)
                    raise
            finally:
                os.close(log)
        except OSError as error:
            raise LogNotWritable(
                f"cannot write the audit log {self._log}: {_reason(error)}"
            ) from None

    def set_log_aside(self) -> None:
        """Rename an existing `.log`."""
        try:
            if os.path.lexists(self._log):
                os.rename(self._log, self._aside("log"))
        except OSError as error:
            raise LogNotWritable(f"cannot move {self._log}: {_reason(error)}") from None

    @contextlib.contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock file; the kernel drops it if we die."""
        if self._lock.is_locked:  # by this thread: a turn within our turn
            yield
            return
        try:
            if not os.path.lexists(self._lock.lock_file):
                self._path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
                self._make_lock_file()
            self._lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
        except Timeout:
            raise KeystoreBusy(
                f"{self._path} is in use by another process (waited {timeout_s:g} s)"
            ) from None
        except OSError as error:
            raise KeystoreNotWritable(
                f"cannot lock {self._path}: {_reason(error)}"
            ) from None
        try:
            yield
        finally:
            self._unlock()

    def _unlock(self) -> None:
        try:
            self._lock.release()
        except OSError as error:
            # An older filelock raises what closing the file says once it is unlocked.
            if self._lock.is_locked:
                raise KeystoreNotWritable(
                    f"cannot unlock {self._path}: {_reason(error)}"
                ) from None

    def _make_lock_file(self) -> None:
        # filelock takes a place where no file can be made for one in use, and waits.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC
        with contextlib.suppress(FileExistsError):
            os.close(os.open(f"{self._path}.lock", flags, FILE_MODE))

    def _compare(self, old: Revision | None) -> None:
        if old is None:
            if os.path.lexists(self._path):
                raise KeystoreExists(f"{self._path} already exists")
            return
        if Revision(*claimed(self.read_start(CLAIM_BYTES))) != old:
            raise RevisionChanged

    def _remove_leftovers(self) -> None:
        # We hold the lock, so a temporary file is one that a crash left behind.
        start = f".{self._path.name}."
        with os.scandir(self._path.parent) as found:
            strays = [
                item.path
                for item in found
                if item.name.startswith(start) and item.name.endswith(".tmp")
            ]
        for stray in strays:
            Path(stray).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _new_file(self, data: bytes, check: Check | None = None) -> Iterator[Path]:
        """Write a synced file with the data; it is checked while the disk writes."""
        temporary = self._temporary()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC
        descriptor = os.open(temporary, flags, FILE_MODE)
        try:
            try:
                write_all(descriptor, data)
                start_writing(descriptor)
                if check is not None:
                    check(data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            # Equal bytes open equally, so what was opened above is what is there.
            if not holds(temporary, data):
                raise KeystoreNotWritable(
                    f"cannot write {self._path}: what was read back is not what was "
                    "written",
                    hint="do not trust this disk; the keystore is as it was",
                )
            yield temporary
        finally:
            # Gone after the rename; still there only if something failed.
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _keep(self, kept: Path) -> None:
        """Give the file at the path a second name, in one step."""
        link = self._temporary()
        try:
            os.link(self._path, link, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP):
                raise
            with self._new_file(self.read()) as copy:  # no hard links here
                os.replace(copy, kept)
            return
        try:
            os.replace(link, kept)
        finally:
            # rename() does nothing when both names are already the same file.
            with contextlib.suppress(OSError):
                os.unlink(link)

    def _drop_former(self) -> None:
        """Remove `.bak`, and the states that a restore set aside, for good."""
        aside = self._path.parent.glob(f"{glob.escape(self._path.name)}.replaced-*")
        for former in (self._backup, *aside):
            try:
                former.unlink(missing_ok=True)
            except OSError as error:
                raise KeystoreNotWritable(
                    f"cannot remove {former}: {_reason(error)}",
                    hint="remove it yourself: it holds a state before this change",
                ) from None
        self._sync_folder()

    def _sync_folder(self) -> None:
        try:
            descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise KeystoreNotWritable(
                f"{self._path} was written, but its folder could not be synced: "
                f"{error.strerror}",
                hint="the change is there now; a power cut may undo it",
            ) from None

    def _aside(self, what: str) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        return self._path.with_name(
            f"{self._path.name}.{what}-{stamp}-{os.urandom(2).hex()}"
        )

    def _not_writable(self, error: OSError) -> KeystoreNotWritable:
        return KeystoreNotWritable(f"cannot write {self._path}: {_reason(error)}")

    def _temporary(self) -> Path:
        return self._path.with_name(f".{self._path.name}.{os.urandom(6).hex()}.tmp")


def _not_readable(path: Path, error: OSError) -> KeystoreNotReadable:
    if error.errno == errno.ELOOP:
        return KeystoreNotReadable(
            f"{path} is a symbolic link", hint="name the file itself"
        )
    return KeystoreNotReadable(f"cannot read {path}: {_reason(error)}")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
