"""Read a file of weights once, tensor by tensor, and hash what was read.

Each tensor's bytes go from the file to where the model has them: the file is never in
memory beside the model, however large both are.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from mlguard.errors import MalformedRun, MalformedWeights, WeightsError
from mlguard.files import CHUNK_BYTES, open_to_read
from mlguard.kinds import START_BYTES, but_is
from mlguard.protect.run_folder.limits import check_size
from mlguard.weights.frameworks import make
from mlguard.weights.header import LENGTH_BYTES, MAX_HEADER_BYTES, parse_header


class HashedFile:
    """An open file whose bytes are read in order, once, and hashed.

    Attributes:
        path: Where it lies.
        size: How many bytes it has.
        head: The first of them, which the first `fill` gives again.
    """

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.size, self._file = path, size, file
        self._sha256 = hashlib.sha256()
        self.head = file.read(START_BYTES)
        self._file.seek(0)

    def fill(self, into: Any) -> None:
        """Fill a buffer with the next bytes.

        Raises:
            MalformedRun: The file ends within them.
        """
        view = memoryview(into)
        for start in range(0, view.nbytes, CHUNK_BYTES):
            part = view.cast("B")[start : start + CHUNK_BYTES]
            if self._file.readinto(part) != len(part):  # type: ignore[attr-defined]
                raise damaged(self.path, self.head, "it ends too early")
            self._sha256.update(part)

    def chunks(self) -> Iterator[bytes]:
        """The rest of the file, piece by piece.

        Raises:
            MalformedRun: It has grown.
        """
        left = self.size - self._file.tell()
        while chunk := self._file.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise MalformedRun(f"{self.path} grew while it was read")
            self._sha256.update(chunk)
            yield chunk

    def sha256(self) -> str:
        """SHA-256 of the whole file, in hex: what was not read yet is read for it."""
        for _ in self.chunks():
            pass
        return self._sha256.hexdigest()


@contextmanager
def hashed_file(path: Path, limit: int) -> Iterator[HashedFile]:
    """Open a file to read it once.

    Args:
        path: The file; links are followed.
        limit: The most bytes it may have.

    Raises:
        MalformedRun: It is missing, cannot be read, is larger, or is not a regular
            file.
    """
    check_size(path, limit)
    try:
        with open(path, "rb", opener=open_to_read) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(0, "not a regular file")
            if facts.st_size > limit:
                raise OSError(0, f"larger than {limit} bytes")
            yield HashedFile(path, file, facts.st_size)
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror or error}") from None


def tensors_of(file: HashedFile) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, each into memory of its own.

    Raises:
        MalformedRun: It is damaged, or not a safetensors file.
    """
    length = bytearray(LENGTH_BYTES)
    file.fill(length)
    count = int.from_bytes(length, "little")
    if count > min(MAX_HEADER_BYTES, file.size):
        raise damaged(file.path, file.head, f"its header would have {count} bytes")
    raw = bytearray(count)
    file.fill(raw)
    try:
        header = parse_header(bytes(raw), name=str(file.path))
        expected = LENGTH_BYTES + count + header.data_bytes
        if file.size != expected:  # before memory is asked for
            reason = f"its header needs {expected} bytes, it has {file.size}"
            raise damaged(file.path, file.head, reason)
        return {
            entry.name: make(
                entry, file.fill, framework="pt", device="cpu", name=str(file.path)
            )
            for entry in header.entries
        }
    except (MalformedWeights, WeightsError) as problem:
        raise damaged(file.path, file.head, str(problem)) from None


def damaged(path: Path, head: bytes, reason: str) -> MalformedRun:
    """Return the refusal of a file of weights that is none."""
    if kind := but_is(head):
        return MalformedRun(f"{path} is not a safetensors file{kind}")
    return MalformedRun(f"{path} is damaged, or not a safetensors file: {reason}")
