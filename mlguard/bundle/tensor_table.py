"""The table of a bundle's tensors: their places in `weights.bin`, and their tags.

It is canonical JSON, sealed with the graph. A reader recomputes every offset: one list
of tensors has one layout. docs/spec/bundle-v2.md, section 3.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlguard.canonical import canonical
from mlguard.errors import MalformedBundle
from mlguard.sealing import TensorHeader, check_name, chunks_of

ALIGNMENT = 64  # bytes; the alignment that suits vector instructions
MAX_TENSORS = 100_000
MAX_RANK = 64
TAG_DIGITS = 32
FIELDS = {"name", "type", "shape", "tags"}


@dataclass(frozen=True)
class Row:
    """One tensor of a bundle.

    Attributes:
        header: Its name, type and shape.
        offset: Where its bytes begin in `weights.bin`.
        tags: One for each of its chunks.
    """

    header: TensorHeader
    offset: int
    tags: tuple[bytes, ...]

    @property
    def ends_at(self) -> int:
        """Where its bytes end in `weights.bin`."""
        return self.offset + self.header.size_bytes


def lay_out(headers: Iterable[TensorHeader]) -> list[Row]:
    """Give every tensor its place, one after the other, with tags of zeros."""
    rows, at = [], 0
    for header in headers:
        at = -(-at // ALIGNMENT) * ALIGNMENT
        rows.append(Row(header, at, (bytes(16),) * chunks_of(header.size_bytes)))
        at = rows[-1].ends_at
    return rows


def weights_bytes(rows: Sequence[Row]) -> int:
    """Return the size of `weights.bin` in bytes."""
    return rows[-1].ends_at if rows else 0


def write_table(rows: Sequence[Row]) -> bytes:
    """Return the table in its one spelling. Its length does not depend on the tags."""
    entries = [
        {
            "name": row.header.name,
            "type": row.header.element_type,
            "shape": row.header.shape,
            "tags": [tag.hex() for tag in row.tags],
        }
        for row in rows
    ]
    return canonical(entries)


def parse_table(data: bytes, *, name: str) -> list[Row]:
    """Read a table, refusing every spelling but the canonical one.

    Raises:
        MalformedBundle: The table does not follow the specification.
    """
    try:
        entries = json.loads(data.decode())
        if not isinstance(entries, list) or len(entries) > MAX_TENSORS:
            raise ValueError(f"expected a list of at most {MAX_TENSORS} tensors")
        placed = lay_out([_header(entry) for entry in entries])
        rows = [
            Row(row.header, row.offset, _tags(entry, len(row.tags)))
            for row, entry in zip(placed, entries, strict=True)
        ]
        if write_table(rows) != data:
            raise ValueError("is not in its canonical spelling")
        check_names([row.header for row in rows])
    except (ValueError, RecursionError, OverflowError) as problem:
        reason = str(problem).partition("\n")[0]
        raise MalformedBundle(f"{name}: table of tensors: {reason}") from None
    return rows


def check_names(headers: Sequence[TensorHeader]) -> None:
    """Refuse names that readers or terminals could interpret differently.

    Raises:
        ValueError: A name is empty, too long, appears twice, or has control characters.
    """
    for header in headers:
        check_name(header.name)
    if len({header.name for header in headers}) != len(headers):
        raise ValueError("two tensors have one name")


def _header(entry: Any) -> TensorHeader:
    if not isinstance(entry, dict) or set(entry) != FIELDS:
        raise ValueError(f"expected {sorted(FIELDS)} of every tensor")
    name, kind, shape = entry["name"], entry["type"], entry["shape"]
    sound = isinstance(name, str) and type(kind) is int and isinstance(shape, list)
    if not sound or len(shape) > MAX_RANK or any(type(n) is not int for n in shape):
        raise ValueError("a tensor's name, type or shape is of the wrong type")
    header = TensorHeader(name, kind, tuple(shape))
    if any(size > 1 << 46 for size in shape) or header.size_bytes > 1 << 46:
        raise ValueError(f"tensor {name!r} is too large")
    return header


def _tags(entry: Any, count: int) -> tuple[bytes, ...]:
    tags = entry["tags"]
    if not isinstance(tags, list) or len(tags) != count:
        raise ValueError(f"tensor {entry['name']!r} needs {count} tags")
    if any(not isinstance(tag, str) or len(tag) != TAG_DIGITS for tag in tags):
        raise ValueError(f"tensor {entry['name']!r} has a tag of the wrong length")
    return tuple(bytes.fromhex(tag) for tag in tags)
