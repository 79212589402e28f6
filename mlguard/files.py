"""Write files so that nothing half-written is ever seen, and read them in bounds.

Knows only paths and bytes. Every writer outside the keystore goes through here, and
every reader of a small file that a stranger may have made.
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

CHUNK_BYTES = 1 << 20  # read at a time, so that memory follows what is really there
# So that a pipe is refused and not waited for. Windows has no such flag.
NOT_WAITING = getattr(os, "O_NONBLOCK", 0)
PRIVATE_FOLDER = 0o700  # permission bits of a folder for its owner's eyes
# What link() says where a file system or a system has no hard links.
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}

# What file managers, synchronizers and file systems put into folders; in lower case.
DROPPINGS = frozenset(
    {
        ".directory", ".ds_store", ".fseventsd", ".ipynb_checkpoints",
        ".spotlight-v100", ".temporaryitems", "#recycle", "$recycle.bin", "@eadir",
        "__macosx", "desktop.ini", "ehthumbs.db", "icon\r", "lost+found",
        "system volume information", "thumbs.db",
    }
)  # fmt: skip


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a whole file that nobody vouches for.

    A device or a pipe, or a link to one, is refused: it has no end, or never begins.
    Both refusals are OSErrors, so a caller has one thing to put into its own words.

    Args:
        path: The file; links are followed.
        limit: The most bytes it may have.

    Raises:
        OSError: It cannot be read, is not a regular file, or is larger. `strerror`
            says which.
    """
    with open(path, "rb", buffering=0, opener=open_to_read) as file:
        size = _check_regular(file.fileno(), path)
        # Before anything is read: a sparse file costs its maker nothing.
        chunks, room = [], limit + 1 if size <= limit else 0
        while room and (chunk := file.read(min(room, CHUNK_BYTES))):
            chunks.append(chunk)
            room -= len(chunk)
    if not room:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return b"".join(chunks)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, replacing what was there.

    Args:
        path: The file. Its folder must exist.
        data: The whole content.
        mode: Permission bits of a new file, before the umask.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    _write(path, lambda file: file.write(data), mode, os.replace)


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, and never over something else.

    Of two writers at one time, one is refused.

    Raises:
        OutputExists: There is something at the path.
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
    """Write a file part by part, whole or not at all, and never over something else.

    Args:
        path: The file. Its folder must exist.
        fill: Writes the content; the file is empty and can be written anywhere.
        check: Called with the finished file before it gets its name; what it raises
            leaves nothing behind.

    Raises:
        OutputExists: There is something at the path.
        OutputError: There is no space, or the folder is not writable.
    """

    def put(temporary: Path, place: Path) -> None:
        if check is not None:
            check(temporary)
        _put_new(temporary, place)

    refuse_existing(path)
    _write(path, fill, 0o666, put)


def refuse_existing(path: Path) -> None:
    """Refuse a path at which there is something, a dangling link too.

    Raises:
        OutputExists: There is something at the path.
    """
    if os.path.lexists(path):
        raise OutputExists(f"{path} exists already")


def prepare_output_folder(path: Path, *, mode: int = 0o777) -> None:
    """Create a folder for results, or take one that is empty.

    Args:
        path: The folder.
        mode: Permission bits if it is new, before the umask; those above it get the
            usual ones.

    Raises:
        OutputExists: The path is a file, or a folder that holds something.
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

    What a file manager or a file system left there does not count.

    Raises:
        OutputExists: It is a file, or a folder that holds something.
        OutputError: What it holds cannot be listed.
    """
    try:
        with os.scandir(path) as entries:
            held = next((e.name for e in entries if not is_dropping(e.name)), None)
    except FileNotFoundError:
        if path.is_symlink():
            raise OutputExists(f"{path} is a link that leads nowhere") from None
        return
    except NotADirectoryError:
        raise OutputExists(f"{path} is not a folder") from None
    except OSError as error:
        raise OutputError(
            f"cannot see whether {path} is empty: {error.strerror}",
            hint="choose a new folder, or one that you may list",
        ) from None
    if held is not None:
        raise OutputExists(f"{path} is not empty: it holds {held}")


def is_dropping(name: str) -> bool:
    """Whether a file or folder is another system's note to itself, never the user's.

    Example:
        >>> [name for name in ("._a.jpg", "@eaDir", "a.jpg") if is_dropping(name)]
        ['._a.jpg', '@eaDir']
    """
    return name.startswith(("._", ".nfs", ".Trash")) or name.casefold() in DROPPINGS


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex; the file may be larger than memory.

    Raises:
        OSError: It cannot be read, or is not a regular file.
    """
    with open(path, "rb", buffering=0, opener=open_to_read) as file:
        _check_regular(file.fileno(), path)
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path, limit: int) -> str:
    """Read a whole text file that nobody vouches for, in UTF-8.

    The byte-order mark that editors on Windows put before a text is no part of it.

    Raises:
        OSError: As `read_bounded`.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_bounded(path, limit).decode("utf-8-sig")


def _check_regular(descriptor: int, path: Path) -> int:
    """The size of a file, which must be one."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return found.st_size


def open_to_read(path: str, flags: int) -> int:
    """What `open` is given as `opener`, so that a pipe is not waited for."""
    return os.open(path, flags | NOT_WAITING)


def _write(
    path: Path,
    fill: Callable[[BinaryIO], object],
    mode: int,
    put: Callable[[Path, Path], None],
) -> None:
    # A name of its own and not the file's with an ending: that could be too long.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    except FileExistsError:
        raise OutputExists(f"{path} exists already") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.parent.exists():
            raise OutputError(
                f"cannot write {path}: there is no folder {path.parent}",
                hint="make the folder first, or name one that is there",
            ) from None
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):  # gone already, or never made
            temporary.unlink()


def _put_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name, unless something has it.

    Raises:
        OSError: Something has it, or the folder is not writable.
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # Whoever makes the empty file may fill it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            os.replace(temporary, path)
        except OSError:
            path.unlink()
            raise
