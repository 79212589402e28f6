"""Small text files that hold a secret: private when written, refused when not.

Identity files and exported keys. docs/spec/keystore-v1.md, section 4.
"""

import os
import stat
from pathlib import Path

from keystore.errors import IdentityError

MAX_FILE_BYTES = 4096  # such a file is a few lines; more is some other file
FILE_MODE = 0o600


def read_private(path: Path) -> str:
    """Read what is neither empty nor a comment, its lines joined.

    Raises:
        IdentityError: Missing, a link, open to others, or not such a file.
    """
    text = _read(path)
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
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
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


def _read(path: Path) -> str:
    # O_NONBLOCK: a named pipe at the path must not make us wait.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise IdentityError(f"there is no file at {path}") from None
    except OSError as error:
        if path.is_symlink():
            raise IdentityError(
                f"{path} is a symbolic link", hint="name the file itself"
            ) from None
        raise IdentityError(f"cannot read {path}: {error.strerror}") from None
    try:
        with open(descriptor, "rb") as file:
            _check_private(path, os.fstat(descriptor))
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise IdentityError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise IdentityError(f"{path} is too long to be a file with one secret")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise IdentityError(f"{path} is not text") from None


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise IdentityError(f"{path} is not a regular file")
    if found.st_uid not in (os.geteuid(), 0):
        raise IdentityError(f"{path} belongs to another user")
    if found.st_mode & 0o077:
        raise IdentityError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"`chmod 600 {path}`, and think about who may have read it",
        )
