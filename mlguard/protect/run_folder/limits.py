"""Refuse a file that is larger than what it can hold, before any of it is read."""

from pathlib import Path

from mlguard.errors import MalformedRun
from mlguard.files import read_bounded


def read_whole(path: Path, limit: int) -> bytes:
    """Read an untrusted file of tensors.

    Raises:
        MalformedRun: It is missing, cannot be read, is larger, or is not a file.
    """
    check_size(path, limit)
    try:
        return read_bounded(path, limit)
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror or error}") from None


def check_size(path: Path, limit: int) -> None:
    """Refuse a file before any of it is read.

    Raises:
        MalformedRun: It is missing or larger than the limit.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise MalformedRun(f"{path}: no such file") from None
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror or error}") from None
    if size > limit:
        raise MalformedRun(
            f"{path} has {size} bytes, but the weights of this model have at most "
            f"{limit}",
            hint="use the recipe that belongs to the weights",
        )
