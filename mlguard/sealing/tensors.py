"""Tensors, as the sealing knows them: a name, a type, a shape, and bytes.

The types are those of docs/spec/sealed-tensors-v1.md.

Types are ONNX's numbers. Many of them (bfloat16, floats of 8 bits, integers of 4 and 2)
are unknown to numpy: their bytes are passed through unchanged.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

CHUNK_BYTES = 1 << 26  # the most a reader holds, and less than one AES-GCM call allows

MAX_NAME = 1024  # characters

# Bits of one element, by the number of its type in onnx.proto. Strings (8) have no
# fixed size.
ELEMENT_BITS = {
    **{1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64},
    **{12: 32, 13: 64, 14: 64, 15: 128, 16: 16},  # … complex, bfloat16
    **{17: 8, 18: 8, 19: 8, 20: 8, 24: 8},  # floats of 8 bits
    **{21: 4, 22: 4, 23: 4, 25: 2, 26: 2, 27: 6, 28: 6},  # packed
}


@dataclass(frozen=True)
class TensorHeader:
    """The part of a tensor that stays in the clear, and is authenticated.

    Attributes:
        name: The tensor's name in its file.
        element_type: The number of its type in ONNX.
        shape: Sizes of its axes; empty for a scalar.
    """

    name: str
    element_type: int
    shape: tuple[int, ...]

    @cached_property
    def size_bytes(self) -> int:
        """Its size in bytes.

        Raises:
            ValueError: The type is unknown, or a size is negative.
        """
        return tensor_bytes(self.element_type, self.shape)


@dataclass(frozen=True)
class PlainTensor(TensorHeader):
    """A tensor that goes into a file.

    Attributes:
        data: A buffer of its bytes, little-endian, row by row; it may be a memory map.

    Raises:
        ValueError: The size of the buffer does not match type and shape.
    """

    data: Any = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        found = memoryview(self.data).nbytes
        if found != self.size_bytes:
            raise ValueError(
                f"tensor {self.name!r} of type {self.element_type} and shape "
                f"{self.shape} has {self.size_bytes} bytes, got {found}"
            )

    @property
    def header(self) -> TensorHeader:
        """All but the bytes."""
        return TensorHeader(self.name, self.element_type, self.shape)


def check_name(name: str) -> None:
    """Refuse names that a terminal could take for a command.

    Raises:
        ValueError: It is empty, too long, or not printable.
    """
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"a tensor is named {name[:MAX_NAME]!r}")


def tensor_bytes(element_type: int, shape: tuple[int, ...]) -> int:
    """Return the size of a tensor in bytes.

    Raises:
        ValueError: The type is unknown, or a size is negative.

    Example:
        >>> tensor_bytes(1, (2, 3)), tensor_bytes(22, (3,)), tensor_bytes(7, ())
        (24, 2, 8)
    """
    if element_type not in ELEMENT_BITS:
        raise ValueError(
            f"type {element_type} cannot be sealed: its elements have no fixed size"
        )
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape} has a negative size")
    return -(-math.prod(shape) * ELEMENT_BITS[element_type] // 8)


def chunks_of(size_bytes: int) -> int:
    """Return how many chunks, and so tags, a tensor of that many bytes has."""
    return max(1, -(-size_bytes // CHUNK_BYTES))
