"""Write files so that nothing half-written is ever seen.

Knows only paths and bytes. Every writer outside the keystore goes through here.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from mlguard.errors import OutputError, OutputExists


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, replacing what was there.

    Args:
        path: The file. Its folder must exist.
        data: The whole content.
        mode: Permission bits of a new file, before the umask.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):  # gone already, or never made
            temporary.unlink()


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, and never over something else.

    Raises:
        OutputExists: There is something at the path.
        OutputError: There is no space, or the folder is not writable.
    """
    refuse_existing(path)
    atomic_write(path, data, mode=mode)


def refuse_existing(path: Path) -> None:
    """Refuse a path at which there is something, a dangling link too.

    Raises:
        OutputExists: There is something at the path.
    """
    if os.path.lexists(path):
        raise OutputExists(f"{path} exists already")


def prepare_output_folder(path: Path) -> None:
    """Create a folder for results, or take one that is empty.

    Raises:
        OutputExists: The path is a file, or a folder that holds something.
        OutputError: The folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise OutputExists(f"{path} is not empty")
    except (FileExistsError, NotADirectoryError):
        raise OutputExists(f"{path} is not a folder") from None
    except OSError as error:
        raise OutputError(f"cannot create {path}: {error.strerror}") from None
