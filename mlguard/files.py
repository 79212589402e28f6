"""Write files so that nothing half-written is ever seen, and nothing is overwritten.

Knows only paths and bytes. Every writer outside the keystore goes through here.
"""

import os
import secrets
from pathlib import Path

from mlguard.errors import OutputError, RunExists


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
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def prepare_output_folder(path: Path) -> None:
    """Create a folder for results, or take one that is empty.

    Raises:
        RunExists: The path is a file, or a folder that holds something.
        OutputError: The folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise RunExists(f"{path} is not empty")
    except (FileExistsError, NotADirectoryError):
        raise RunExists(f"{path} is not a folder") from None
    except OSError as error:
        raise OutputError(f"cannot create {path}: {error.strerror}") from None
