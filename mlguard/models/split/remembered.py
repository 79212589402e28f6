"""Features that are computed once: a frozen backbone always answers the same.

They lie in a file without a name, which the system removes when the process ends. They
are read back bit for bit, whether a run was stopped in between or not: on a CPU, the
backbone gets images one by one.
"""

import hashlib
import math
import tempfile
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

GIGABYTE = 10**9
DIGEST_BYTES = 16


class _Place(NamedTuple):
    at: int
    shapes: tuple[tuple[int, ...], ...]


class Memory:
    """The answers of a frozen backbone, up to a number of bytes.

    Args:
        backbone: Frozen, in eval mode.
        limit: The bytes on the disk; once they are full, other maps are computed every
            time.
    """

    def __init__(self, backbone: nn.Module, limit: int) -> None:
        self._backbone, self._limit = backbone, limit
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  it has no name
        self._places: dict[bytes, _Place] = {}
        self._end = 0
        self.computed = self.read = 0  # images

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Return the backbone's maps in half precision, as a host sends them.

        Shape:
            pixels   (N, 3, H, W) float32, normalized
            returns  a list of (N, C, h, w) float16
        """
        keys = [_digest(one) for one in pixels]
        new = [row for row, key in enumerate(keys) if key not in self._places]
        together = 1 if pixels.device.type == "cpu" else max(len(new), 1)
        fresh: dict[int, list[Tensor]] = {}
        for start in range(0, len(new), together):
            rows = new[start : start + together]
            found = half_maps(self._backbone, pixels[rows])
            for place, row in enumerate(rows):
                fresh[row] = [one[place] for one in found]
                self._write(keys[row], fresh[row])
        self.computed += len(new)
        self.read += len(keys) - len(new)
        rows_of = [
            fresh[row] if row in fresh else self._read(key, pixels.device)
            for row, key in enumerate(keys)
        ]
        return [torch.stack(one) for one in zip(*rows_of, strict=True)]

    def close(self) -> None:
        """Forget everything."""
        self._places.clear()
        self._file.close()

    def _write(self, key: bytes, maps: list[Tensor]) -> None:
        data = b"".join(one.cpu().contiguous().numpy().tobytes() for one in maps)
        if self._end + len(data) > self._limit:
            return
        try:
            self._file.seek(self._end)
            if self._file.write(data) != len(data):
                raise OSError("cut off")
        except OSError:  # no space: what is there stays, nothing is added
            self._limit = self._end
            return
        self._places[key] = _Place(self._end, tuple(tuple(one.shape) for one in maps))
        self._end += len(data)

    def _read(self, key: bytes, device: torch.device) -> list[Tensor]:
        place = self._places[key]
        sizes = [math.prod(shape) for shape in place.shapes]
        self._file.seek(place.at)
        data = bytearray(self._file.read(2 * sum(sizes)))
        values = np.split(np.frombuffer(data, np.float16), np.cumsum(sizes)[:-1])
        return [
            torch.from_numpy(one.reshape(shape)).to(device)
            for one, shape in zip(values, place.shapes, strict=True)
        ]


@torch.no_grad()
def half_maps(backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
    """A backbone's maps in half precision, computed in single as a host does."""
    # Not the pixels' device: they have none while traced. An ONNX file has no tensors.
    kinds = {one.device.type for one in backbone.parameters()} or {"cpu"}
    with torch.autocast(kinds.pop(), enabled=False):
        return [one.half() for one in backbone(pixels)]


def _digest(image: Tensor) -> bytes:
    data = image.detach().cpu().contiguous().numpy().tobytes()
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
