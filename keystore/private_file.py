"""Small text files that hold a secret: private when written, refused when not.

These are identity files and exported keys. A file may also come as containers deliver
it: read only, behind the links of a mounted Kubernetes Secret, or from an open pipe.
docs/keystore/ci.md says which and why; docs/spec/keystore-v1.md, section 4.
"""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from keystore.errors import IdentityError
from keystore.system import BINARY, CLOEXEC, NOFOLLOW, NONBLOCK, user_id

MAX_FILE_BYTES = 4096  # such a file is a few lines; more is some other file
FILE_MODE = 0o600
DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/self/fd)/([0-9]{1,9})", re.ASCII)
SECRET_LINK = re.compile(r"\.\.data/[^/]+")  # how Kubernetes mounts a Secret

Say = Callable[[str], None]


def read_private(path: Path, *, say: Say | None = None) -> str:
    """Return the lines that are neither empty nor a comment, joined.

    Args:
        path: The file; /dev/fd/N and /dev/stdin are read as they are.
        say: Called when others can read the file, though it is accepted.

    Raises:
        IdentityError: Missing, a link, open to others, or not such a file.
    """
    text = _read(path, say)
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise IdentityError(f"there is no secret in {path}")
    return "".join(lines)


def write_private(path: Path, line: str, *, comments: list[str]) -> None:
    """Write a new file that only its owner can read.

    Raises:
        IdentityError: Something is already there, or it cannot be written.
    """
    text = "".join(f"# {comment}\n" for comment in comments) + line + "\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC | BINARY
    try:
        descriptor = os.open(path, flags, FILE_MODE)
    except FileExistsError:
        raise IdentityError(f"{path} already exists; it is never overwritten") from None
    except OSError as error:
        raise IdentityError(f"cannot write {path}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise IdentityError(f"cannot write {path}: {error.strerror}") from None


def _read(path: Path, say: Say | None) -> str:
    try:
        with open(_open(path), "rb") as file:
            found = os.fstat(file.fileno())
            piped = _descriptor_of(path) is not None and not stat.S_ISREG(found.st_mode)
            if not piped:
                _check_private(path, found, say)
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise IdentityError(f"there is no file at {path}") from None
    except OSError as error:
        raise IdentityError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise IdentityError(f"{path} is too long to be a file with one secret")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise IdentityError(f"{path} is not text") from None


def _open(path: Path) -> int:
    inherited = _descriptor_of(path)
    if inherited is not None:
        return os.dup(inherited)  # opened by our parent process: nobody can swap it
    if path.is_symlink():
        path = _behind_links(path)
    # O_NONBLOCK: a named pipe at the path must not make us wait.
    return os.open(path, os.O_RDONLY | NOFOLLOW | CLOEXEC | NONBLOCK | BINARY)


def _descriptor_of(path: Path) -> int | None:
    if str(path) == "/dev/stdin":
        return 0
    named = DESCRIPTOR.fullmatch(str(path))
    return int(named[1]) if named else None


def _behind_links(path: Path) -> Path:
    """Return the file of a mounted Secret, whose links are root's, in one folder.

    Any other link is refused: whoever can put a link there chooses what is read.
    """
    folder = path.parent.stat()
    swappable = folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX
    file = Path(os.path.realpath(path))
    inside = file.is_relative_to(os.path.realpath(path.parent))
    owners = {0, user_id()}
    links = (path, path.parent / "..data")
    if (
        not SECRET_LINK.fullmatch(os.readlink(path))
        or not inside
        or swappable
        or any(os.lstat(link).st_uid not in owners for link in links)
    ):
        raise IdentityError(
            f"{path} is a symbolic link",
            hint="name the file itself; only the links of a mounted Kubernetes Secret "
            "are followed",
        )
    return file


def _check_private(path: Path, found: os.stat_result, say: Say | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise IdentityError(f"{path} is not a regular file")
    me = user_id()
    if me is None:  # Windows tells rights otherwise
        return
    if found.st_uid not in (me, 0):
        raise IdentityError(f"{path} belongs to another user")
    readable, mounted = found.st_mode & 0o044, not found.st_mode & 0o333
    if readable and mounted:
        if say is not None:
            say(f"{path} can be read by other users of this machine")
    elif found.st_mode & 0o077:
        raise IdentityError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"`chmod 600 {path}`, and consider who may have read it; a mounted "
            "secret may be 0400, 0440 or 0444",
        )
