"""Read and write the header of a .safetensors file, strictly: tensors without holes.

The module knows no key and no framework. docs/spec/weights-v1.md, sections 1 and 2.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from mlguard.errors import MalformedWeights
from mlguard.sealing import ELEMENT_BITS, TensorHeader, check_name

MAX_HEADER_BYTES = 1 << 24  # more than 50,000 tensors
MAX_AXES = 64
MAX_SIZE = 1 << 46  # of an axis, and of a tensor's bytes
LENGTH_BYTES = 8
ALIGNMENT = 64  # alignment of the data in files that we write
METADATA = "__metadata__"
FIELDS = {"dtype", "shape", "data_offsets"}

# The number of a type in ONNX, by its name in safetensors.
ELEMENT_TYPES = {
    **{"BOOL": 9, "U8": 2, "I8": 3, "I16": 5, "U16": 4, "I32": 6, "U32": 12},
    **{"I64": 7, "U64": 13, "F16": 10, "BF16": 16, "F32": 1, "F64": 11, "C64": 14},
    **{"F8_E4M3": 17, "F8_E4M3FNUZ": 18, "F8_E5M2": 19, "F8_E5M2FNUZ": 20},
    **{"F8_E8M0": 24, "F4": 23, "F6_E2M3": 27, "F6_E3M2": 28},
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        name: Its name in the file.
        dtype: Its type, as safetensors calls it.
        shape: Sizes of its axes; empty for a scalar.
        start: Where its bytes begin in the data.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0

    @property
    def header(self) -> TensorHeader:
        """The header under which it is sealed."""
        return TensorHeader(self.name, ELEMENT_TYPES[self.dtype], self.shape)

    @property
    def size_bytes(self) -> int:
        """Its size in bytes."""
        return self.header.size_bytes

    @property
    def stop(self) -> int:
        """Where its bytes end in the data."""
        return self.start + self.size_bytes


@dataclass(frozen=True)
class Header:
    """The parsed header of a file.

    Attributes:
        metadata: Strings by name.
        entries: The tensors in the order of their bytes.
    """

    metadata: Mapping[str, str]
    entries: tuple[Entry, ...]

    @property
    def data_bytes(self) -> int:
        """The size of all tensors in bytes."""
        return self.entries[-1].stop if self.entries else 0


def parse_header(raw: bytes, *, name: str) -> Header:
    """Read a header, with any spaces behind it.

    Args:
        raw: Its bytes, without the length before it.
        name: The name of the file in a refusal.

    Raises:
        MalformedWeights: It does not follow the specification.
    """
    try:
        fields = json.loads(
            raw.decode(),
            object_pairs_hook=_once,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
        if not isinstance(fields, dict):
            raise ValueError("expected a JSON object")
        metadata = _metadata(fields.pop(METADATA, {}))
        entries = [_entry(key, value) for key, value in fields.items()]
        return Header(metadata, in_order(entries))
    except (ValueError, RecursionError) as problem:
        reason = str(problem).partition("\n")[0][:200]
        raise MalformedWeights(f"{name}: header: {reason}") from None


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Sort tensors by their places, and refuse holes and overlaps.

    Raises:
        ValueError: One does not begin where the one before it ends.
    """
    ordered = sorted(entries, key=lambda one: (one.start, one.stop, one.name.encode()))
    expected = 0
    for one in ordered:
        if one.start != expected:
            raise ValueError(
                f"tensor {one.name!r} begins at {one.start}, expected {expected}"
            )
        expected = one.stop
    return tuple(ordered)


def write_header(metadata: Mapping[str, str], entries: Iterable[Entry]) -> bytes:
    """Return a header with its length before it, padded with spaces to the data."""
    fields: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))}
    for one in entries:
        offsets = [one.start, one.stop]
        fields[one.name] = {
            "dtype": one.dtype,
            "shape": list(one.shape),
            "data_offsets": offsets,
        }
    raw = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-(LENGTH_BYTES + len(raw)) % ALIGNMENT)
    return len(raw).to_bytes(LENGTH_BYTES, "little") + raw


def _entry(name: str, fields: Any) -> Entry:
    check_name(name)
    if not isinstance(fields, dict) or set(fields) != FIELDS:
        raise ValueError(f"expected {sorted(FIELDS)} of tensor {name!r}")
    dtype, shape, offsets = (fields[key] for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ELEMENT_TYPES:
        raise ValueError(f"tensor {name!r} is of the unknown type {str(dtype)[:40]!r}")
    if not _whole(shape) or len(shape) > MAX_AXES:
        raise ValueError(f"expected at most {MAX_AXES} sizes of tensor {name!r}")
    if not _whole(offsets) or len(offsets) != 2:
        raise ValueError(f"expected two offsets of tensor {name!r}")
    found = Entry(name, dtype, tuple(shape), offsets[0])
    check_size(found)
    if found.stop != offsets[1]:
        raise ValueError(
            f"tensor {name!r} has {found.size_bytes} bytes by its type and shape, but "
            f"{offsets[1] - offsets[0]} by its offsets"
        )
    return found


def check_size(entry: Entry) -> None:
    """Refuse a tensor that is too large, or that ends within a byte.

    Raises:
        ValueError: The tensor is such a one.
    """
    elements = 1
    for size in entry.shape:
        elements *= max(size, 1)  # numpy lays out the axes beside an empty one too
        if not 0 <= size <= MAX_SIZE or elements > MAX_SIZE:
            raise ValueError(f"tensor {entry.name!r} is too large")
    elements = math.prod(entry.shape)
    if elements * ELEMENT_BITS[ELEMENT_TYPES[entry.dtype]] % 8:
        raise ValueError(f"tensor {entry.name!r} ends within a byte")


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(one) is int and 0 <= one <= MAX_SIZE for one in values
    )


def _metadata(fields: Any) -> dict[str, str]:
    if not isinstance(fields, dict) or not all(
        isinstance(value, str) for value in fields.values()
    ):
        raise ValueError(f"expected an object of strings at {METADATA}")
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name appears twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not an integer")
