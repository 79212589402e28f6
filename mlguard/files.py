"""Write files so that nothing half-written is ever seen, and read them within limits.

The module knows only paths and bytes. Every writer outside the keystore uses it, and
every reader of a small untrusted file.
"""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mlguard.errors import OutputError, OutputExists

CHUNK_BYTES = 1 << 20  # read at a time, so that memory follows the real size
# With it, a pipe is refused and not waited for. Windows lacks such a flag.
NOT_WAITING = getattr(os, "O_NONBLOCK", 0)
PRIVATE_FOLDER = 0o700  # permission bits of a folder for its owner's eyes
# Errors of link() where a file system or a system lacks hard links.
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}

# Names of what file managers, synchronizers and file systems put into folders, in lower
# case.
DROPPINGS = frozenset(
    {
        ".directory", ".ds_store", ".fseventsd", ".ipynb_checkpoints",
        ".spotlight-v100", ".temporaryitems", "#recycle", "$recycle.bin", "@eadir",
        "__macosx", "desktop.ini", "ehthumbs.db", "icon\r", "lost+found",
        "system volume information", "thumbs.db",
    }
)  # fmt: skip


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a whole untrusted file.

    A device or a pipe, or a link to one, is refused: it has no end, or never begins.
    Refusals are OSErrors, so a caller can handle all of them in one place.

    Args:
        path: The file; links are followed.
        limit: The most bytes it may have.

    Raises:
        OSError: It cannot be read, is not a regular file, or is larger. `strerror`
            says which.
    """
    with open(path, "rb", buffering=0, opener=open_to_read) as file:
        size = _check_regular(file.fileno(), path)
        # Checked before anything is read: a sparse file costs its maker nothing.
        chunks, room = [], limit + 1 if size <= limit else 0
        while room and (chunk := file.read(min(room, CHUNK_BYTES))):
            chunks.append(chunk)
            room -= len(chunk)
    if not room:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return b"".join(chunks)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file completely or not at all, replacing an existing one.

    Args:
        path: The file. Its folder must exist.
        data: The whole content.
        mode: Permission bits of a new file, before the umask.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    atomic_fill(path, lambda file: file.write(data), mode=mode)


def atomic_fill(
    path: Path, fill: Callable[[BinaryIO], object], *, mode: int = 0o644
) -> None:
    """Write a file part by part, whole or not at all, replacing what was there.

    Args:
        path: The file. Its folder must exist.
        fill: Writes the content.
        mode: Permission bits of a new file, before the umask.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    _write(path, fill, mode, os.replace)


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file completely or not at all, and never overwrite a file.

    If two processes write it at once, one is refused.

    Raises:
        OutputExists: Something is already at the path.
        OutputError: There is no space, or the folder is not writable.
    """
    refuse_existing(path)
    _write(path, lambda file: file.write(data), mode, _put_new)


def fill_new(
    path: Path,
    fill: Callable[[BinaryIO], object],
    *,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write a file part by part, completely or not at all, and never overwrite a file.

    Args:
        path: The file. Its folder must exist.
        fill: Writes the content into an empty, seekable file.
        check: Called with the finished file before it gets its name; if it raises, no
            file is left behind.

    Raises:
        OutputExists: Something is already at the path.
        OutputError: There is no space, or the folder is not writable.
    """

    def put(temporary: Path, place: Path) -> None:
        if check is not None:
            check(temporary)
        _put_new(temporary, place)

    refuse_existing(path)
    _write(path, fill, 0o666, put)


def refuse_existing(path: Path) -> None:
    """Refuse a path at which something exists, even a dangling link.

    Raises:
        OutputExists: Something is already at the path.
    """
    if os.path.lexists(path):
        raise OutputExists(f"{path} already exists")


def prepare_output_folder(path: Path, *, mode: int = 0o777) -> None:
    """Create a folder for results, or accept an empty one.

    Args:
        path: The folder.
        mode: Permission bits if it is new, before the umask; parent folders get the
            usual ones.

    Raises:
        OutputExists: The path is a file, or a folder that is not empty.
        OutputError: The folder cannot be created, or cannot be listed.
    """
    refuse_filled_folder(path)
    try:
        path.mkdir(mode, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise OutputExists(f"{path} is not a folder") from None
    except OSError as error:
        raise OutputError(f"cannot create {path}: {error.strerror}") from None


def refuse_filled_folder(path: Path) -> None:
    """Refuse a place for results that is neither new nor an empty folder.

    Files of a file manager or a file system do not count.

    Raises:
        OutputExists: It is a file, or a folder that is not empty.
        OutputError: Its contents cannot be listed.
    """
    try:
        with os.scandir(path) as entries:
            held = next((e.name for e in entries if not is_dropping(e.name)), None)
    except FileNotFoundError:
        if path.is_symlink():
            raise OutputExists(f"{path} is a link to a missing file") from None
        return
    except NotADirectoryError:
        raise OutputExists(f"{path} is not a folder") from None
    except OSError as error:
        raise OutputError(
            f"cannot list {path} to see whether it is empty: {error.strerror}",
            hint="choose a new folder, or one that you may list",
        ) from None
    if held is not None:
        raise OutputExists(f"{path} is not empty: it holds {held}")


def is_dropping(name: str) -> bool:
    """Whether a file or folder belongs to a file manager or system, never to the user.

    Example:
        >>> [name for name in ("._a.jpg", "@eaDir", "a.jpg") if is_dropping(name)]
        ['._a.jpg', '@eaDir']
    """
    return name.startswith(("._", ".nfs", ".Trash")) or name.casefold() in DROPPINGS


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex; the file may be larger than memory.

    Raises:
        OSError: It cannot be read, or is not a regular file.
    """
    with open(path, "rb", buffering=0, opener=open_to_read) as file:
        _check_regular(file.fileno(), path)
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path, limit: int) -> str:
    """Read a whole untrusted text file, in UTF-8.

    A byte-order mark, which editors on Windows put before a text, is removed.

    Raises:
        OSError: As in `read_bounded`.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_bounded(path, limit).decode("utf-8-sig")


def _check_regular(descriptor: int, path: Path) -> int:
    """Return the size of a file, which must be a regular one."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return found.st_size


def open_to_read(path: str, flags: int) -> int:
    """An `opener` for `open`, so that a pipe is not waited for."""
    return os.open(path, flags | NOT_WAITING)


def _write(
    path: Path,
    fill: Callable[[BinaryIO], object],
    mode: int,
    put: Callable[[Path, Path], None],
) -> None:
    # A separate name, not the file's with an ending, which could be too long.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    except FileExistsError:
        raise OutputExists(f"{path} already exists") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.parent.exists():
            raise OutputError(
                f"cannot write {path}: there is no folder {path.parent}",
                hint="make the folder first, or name an existing one",
            ) from None
        refusal = OutputError(f"cannot write {path}: {error.strerror}")
        if error.errno == errno.ENAMETOOLONG:
            refusal.hint = "choose a shorter name"
        raise refusal from None
    finally:
        with suppress(OSError):  # gone already, or never made
            temporary.unlink()


def _put_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name, unless the name is taken.

    Raises:
        OSError: The name is taken, or the folder is not writable.
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # The process that makes the empty file may fill it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            os.replace(temporary, path)
        except OSError:
            path.unlink()
            raise
