"""Open a .safetensors file once, and read tensors out of it one by one."""

import os
import stat
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mlguard.errors import MalformedWeights, WeightsError
from mlguard.files import open_to_read
from mlguard.weights.header import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    Entry,
    Header,
    parse_header,
)


class WeightsFile:
    """A .safetensors file, plain or bound, whose header was read and checked.

    Attributes:
        name: The path it was read from.
        header: The parsed header.
        entries: Its tensors by name, in the order of their bytes.
        raw: The header's bytes.
    """

    def __init__(self, path: Path) -> None:
        """Read the header; no tensor is read.

        Raises:
            WeightsError: The file cannot be read.
            MalformedWeights: It does not follow the specification.
        """
        self.name = str(path)
        try:
            self._file: BinaryIO = open(  # noqa: SIM115  # for as long as this object
                path, "rb", buffering=0, opener=open_to_read
            )
        except OSError as error:
            raise WeightsError(f"cannot read {path}: {error.strerror}") from None
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, self._file.close)
        try:
            size = self._size()
            self.raw = self._header(size)
            self.header: Header = parse_header(self.raw, name=self.name)
            self.entries = {one.name: one for one in self.header.entries}
            self._check_end(size)
        except BaseException:
            self.close()
            raise

    @property
    def data_starts(self) -> int:
        """Where the first tensor begins in the file."""
        return LENGTH_BYTES + len(self.raw)

    def read(self, name: str, into: Any) -> None:
        """Fill a buffer with a tensor's bytes as they lie in the file.

        Raises:
            MalformedWeights: The file ends within it.
        """
        view, entry = memoryview(into), self.entries[name]
        if not view.nbytes:
            return

        def fill(file: BinaryIO) -> None:
            self._fill(file, view.cast("B"), f"tensor {entry.name!r}")

        self.at(entry, fill)

    def at(self, entry: Entry, use: Callable[[BinaryIO], None]) -> None:
        """Call a function with the file at a tensor's first byte, one at a time."""
        with self._lock:
            self._file.seek(self.data_starts + entry.start)
            use(self._file)

    def _size(self) -> int:
        facts = os.fstat(self._file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise MalformedWeights(f"{self.name} is not a regular file")
        return facts.st_size

    def _header(self, size: int) -> bytes:
        length = bytearray(LENGTH_BYTES)
        if size < LENGTH_BYTES:
            raise MalformedWeights(
                f"{self.name} is not a .safetensors file: it is too short"
            )
        self._fill(self._file, memoryview(length), "the header's length")
        count = int.from_bytes(length, "little")
        if count > min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
            raise MalformedWeights(
                f"{self.name} is not a readable .safetensors file: its header would "
                f"have {count} bytes"
            )
        raw = bytearray(count)
        self._fill(self._file, memoryview(raw), "the header")
        return bytes(raw)

    def _fill(self, file: BinaryIO, view: memoryview, what: str) -> None:
        filled = 0
        while filled < len(view):
            count = file.readinto(view[filled:])  # type: ignore[attr-defined]
            if not count:
                raise MalformedWeights(f"{self.name}: the file ends within {what}")
            filled += count

    def _check_end(self, size: int) -> None:
        expected = self.data_starts + self.header.data_bytes
        if size != expected:
            raise MalformedWeights(
                f"{self.name}: expected {expected} bytes by its header, got {size}"
            )
