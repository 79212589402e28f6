"""Mark a tensor of a bundle, given as raw bytes and an ONNX type."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys
from mlguard.marks import mark
from mlguard.sealing import TensorHeader

# Types that can carry a mark, by ONNX's number. bfloat16 is marked as float32.
FLOAT32, BFLOAT16 = 1, 16
NUMPY: dict[int, str] = {
    FLOAT32: "<f4",
    2: "u1",
    3: "i1",
    10: "<f2",
    11: "<f8",
}


@dataclass(frozen=True)
class Marked:
    """A tensor with or without a mark.

    Attributes:
        data: Its bytes.
        size: How many elements it has.
        marked: How many of them carry the code.
        largest: The largest change, as a share of the largest value.
    """

    data: NDArray[np.uint8] = field(repr=False)
    size: int
    marked: int = 0
    largest: float = 0.0


def marked_bytes(
    header: TensorHeader,
    data: NDArray[np.uint8],
    subkeys: ModelSubkeys,
    grant_id: bytes,
) -> Marked:
    """Mark a tensor, if it can carry a mark."""
    values = values_of(header, data)
    if values is None:
        return Marked(data, _elements(header))
    changed = mark(header.name, values, subkeys, grant_id)
    if changed is values:
        return Marked(data, values.size)
    difference = np.abs(changed.astype(np.float64) - values).max()
    scale = np.abs(values.astype(np.float64)).max()
    share = float(difference / scale) if scale else 0.0
    return Marked(_bytes_of(header, changed), values.size, values.size, share)


def values_of(header: TensorHeader, data: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Return a tensor's numbers; None if its type cannot carry a mark."""
    if header.element_type == BFLOAT16:
        upper = data.view("<u2").astype("<u4") << 16
        return upper.view("<f4").reshape(header.shape)
    if header.element_type not in NUMPY:
        return None
    return data.view(NUMPY[header.element_type]).reshape(header.shape)


def _bytes_of(header: TensorHeader, values: NDArray[Any]) -> NDArray[np.uint8]:
    if header.element_type == BFLOAT16:
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        # To nearest, ties to even: half of the last place, less one if it is even.
        bits = bits + 0x7FFF + ((bits >> 16) & 1)
        rounded: NDArray[np.uint16] = (bits >> 16).astype("<u2")
        return rounded.reshape(-1).view(np.uint8)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def _elements(header: TensorHeader) -> int:
    return int(np.prod(header.shape, dtype=np.int64))
