"""Find, check and map tensor data in files beside the model.

A model file is untrusted, so a location is followed only within the model's own folder,
and only to regular files.
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from mlguard.errors import ModelFileError
from mlguard.foreign.element_types import size_of

MAX_DIGITS = 19  # digits of an offset; more cannot be the size of a file


@dataclass
class DataFiles:
    """The data files of one model.

    Attributes:
        folder: The folder of the model; None if it did not come from a file.
        name: The model's name in a refusal.
    """

    folder: Path | None
    name: str
    _taken: dict[Path, list[tuple[int, int]]] = field(default_factory=dict)

    def read(self, tensor: TensorProto) -> Any:
        """Map the bytes of a tensor.

        Raises:
            ModelFileError: They are missing, outside the folder, or of another size.
        """
        facts = {entry.key: entry.value for entry in tensor.external_data}
        size = size_of(tensor, name=self.name)
        offset = self._number(facts.get("offset", "0"))
        if self._number(facts.get("length", str(size))) != size:
            raise ModelFileError(
                f"{self.name}: a tensor of shape {tuple(tensor.dims)} has {size} "
                f"bytes, but {facts['length']} in its data file",
                hint="the model and its data file do not belong together",
            )
        path = self._locate(facts.get("location", ""))
        if offset + size > path.stat().st_size:
            raise ModelFileError(
                f"{self.name}: a tensor ends at byte {offset + size} of {path.name}, "
                f"which has {path.stat().st_size}",
                hint="the data file is truncated; copy it again",
            )
        self._taken.setdefault(path, []).append((offset, offset + size))
        if not size:
            return b""
        return np.memmap(path, np.uint8, "r", offset, (size,))

    def check_overlaps(self) -> None:
        """Refuse tensors whose data overlaps in part. Two may share all of it.

        Raises:
            ModelFileError: Two tensors overlap.
        """
        for path, ranges in self._taken.items():
            ordered = sorted({span for span in ranges if span[0] < span[1]})
            for (_, end), (begin, _) in pairwise(ordered):
                if begin < end:
                    raise ModelFileError(
                        f"{self.name}: two tensors overlap in {path.name} at byte "
                        f"{begin}",
                        hint="export the model again; exporters do not write such "
                        "files",
                    )

    def _locate(self, location: str) -> Path:
        shown = repr(location)
        if self.folder is None or not location:
            raise ModelFileError(
                f"{self.name}: a tensor's data is in another file, {shown}, "
                "whose place is unknown"
            )
        folder = self.folder.resolve()
        try:
            path = (folder / location).resolve()
            outside = not path.is_relative_to(folder)
            missing = not outside and not path.exists()
            regular = outside or missing or stat.S_ISREG(path.stat().st_mode)
        except (OSError, ValueError):  # a loop of links, or a name with a null byte
            outside, missing, regular = False, True, False
        if outside:
            raise ModelFileError(
                f"{self.name}: the data file {shown} lies outside the model's folder",
                hint="copy the file beside the model; links out of it are not followed",
            )
        if missing or not regular:
            why = "is not there" if missing else "is not a regular file"
            raise ModelFileError(
                f"{self.name}: the data file {shown} {why}",
                hint="some exporters write the weights to a second file: copy it too",
            )
        return path

    def _number(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
            raise ModelFileError(
                f"{self.name}: expected a number of bytes for a data file, got "
                f"{text[:40]!r}"
            )
        return int(text)


class HeldData(DataFiles):
    """The data of one model's tensors in memory, in no file.

    Args:
        held: The bytes of each; a tensor's location is its number.
        name: The model's name in a refusal.
    """

    def __init__(self, held: Sequence[Any], name: str) -> None:
        super().__init__(None, name)
        self._held = held

    def read(self, tensor: TensorProto) -> Any:
        """Return the bytes of a tensor, not copied."""
        (location,) = (e.value for e in tensor.external_data if e.key == "location")
        return self._held[int(location)]
