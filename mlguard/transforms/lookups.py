"""Reduce a chain of transforms to look-ups, and apply them fast in numpy.

`Transform.values` defines a transform; here the same bits are computed some rows of
blocks at a time, so that intermediate values stay in a core's cache. The torch back-end
looks up in the same tables. docs/spec/transforms-v1.md, section 5.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.rules import BYTE_MAX
from mlguard.transforms.blocks import CHANNELS, from_blocks, to_blocks

BYTES = BYTE_MAX + 1  # entries of a table
STRIP_VALUES = 1 << 18  # of one strip; about a core's cache
MAX_SIZES = 8  # widths of images whose tables are kept


@dataclass(frozen=True, eq=False)
class Lookups:
    """Value i of a transformed block is tables[kinds[i], block[order[i]]].

    They are key material, like the transform that they come from.

    Attributes:
        order: (L,) int64, or None where it is the identity.
        kinds: (L,) int64, the table of each position.
        tables: (K, 256) int32.
    """

    order: NDArray[np.int64] | None
    kinds: NDArray[np.int64]
    tables: NDArray[np.int32]

    @classmethod
    def unchanged(cls, length: int) -> Self:
        """Return look-ups that do not change blocks of L values."""
        table = np.arange(BYTES, dtype=np.int32)
        return cls(None, np.zeros(length, dtype=np.int64), table[None])

    def reordered(self, order: NDArray[np.int64]) -> "Lookups":
        """Return these look-ups followed by putting values in an order."""
        before = order if self.order is None else self.order[order]
        return Lookups(before, self.kinds[order], self.tables)

    def substituted(
        self, mask: NDArray[np.bool_], table: NDArray[np.int32]
    ) -> "Lookups":
        """Return these look-ups followed by a table where a mask is set."""
        kinds = self.kinds + len(self.tables) * mask
        tables = np.concatenate([self.tables, table[self.tables]])
        return Lookups(self.order, kinds, tables)

    @property
    def inverts_only(self) -> bool:
        """Whether bytes stay bytes: the second table, if any, is 255 less the value."""
        negative = BYTE_MAX - self.tables[0]
        others = self.tables[1:]
        return len(others) <= 1 and all(np.array_equal(t, negative) for t in others)

    def __repr__(self) -> str:
        return f"Lookups(length={len(self.kinds)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


class Spread(NamedTuple):
    """The look-ups for every value of an image, or a strip of one, of one size.

    Attributes:
        order: Which value to take, (3·H·W,) int64; None for its own.
        kinds: The table of every value, (3·H·W,) int64; or what to combine it with.
    """

    order: NDArray[np.int64] | None
    kinds: NDArray[Any]

    def __repr__(self) -> str:
        return "Spread()"


def spread(lookups: Lookups, block_size: int, height: int, width: int) -> Spread:
    """Spread order and kinds of a block over an image of a size."""
    numbers = np.arange(CHANNELS * height * width)
    blocks = to_blocks(numbers.reshape(1, CHANNELS, height, width), block_size)
    everywhere = np.broadcast_to(lookups.kinds, blocks.shape)
    kinds = from_blocks(everywhere, block_size).ravel()
    if lookups.order is None:
        return Spread(None, kinds)
    order = from_blocks(blocks[..., lookups.order], block_size).ravel()
    return Spread(order, kinds)


class Strips:
    """Apply look-ups to images, some rows of blocks at a time.

    All rows of blocks are alike, so the tables of one serve the whole image.

    Args:
        lookups: The look-ups of a transform.
        block_size: M, in pixels.
        scale: The divisor of the values.
    """

    def __init__(self, lookups: Lookups, block_size: int, scale: float) -> None:
        self._lookups, self._block_size = lookups, block_size
        self._scale = np.float32(scale)
        self._fractions = lookups.tables.astype(np.float32).ravel() / self._scale
        self._bytes = lookups.inverts_only
        self._spreads: dict[int, Spread] = {}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Transform and divide. Shape: (N, 3, H, W) uint8 to float32."""
        shown = np.empty(images.shape, dtype=np.float32)
        height, width = images.shape[2:]
        row = self._spread(width)
        cut = (CHANNELS, height // self._block_size, self._block_size * width)
        rows = min(cut[1], max(1, STRIP_VALUES // (CHANNELS * cut[2])))
        room = _Room.of(row, rows)
        for image, result in zip(images, shown, strict=True):
            whole, into = image.reshape(cut), result.reshape(cut)
            for top in range(0, cut[1], rows):
                part = slice(top, top + rows)
                self._strip(whole[:, part], row, room, into[:, part])
        return shown

    def __repr__(self) -> str:
        return "Strips()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")

    def _strip(
        self,
        pixels: NDArray[np.uint8],
        row: Spread,
        room: "_Room",
        result: NDArray[np.float32],
    ) -> None:
        """Fill one strip. Shape of pixels and result: (3, rows of blocks, M·W)."""
        rows = pixels.shape[1]
        if row.order is not None:
            np.copyto(room.pixels[:rows], pixels.transpose(1, 0, 2))
            flat, taken = room.pixels[:rows], room.taken[:rows]
            # Nothing is clipped: but `raise` would write into a copy.
            flat = flat.reshape(rows, -1)
            np.take(flat, row.order, 1, taken.reshape(rows, -1), mode="clip")
            pixels = taken.transpose(1, 0, 2)
        combined = room.combined[:, :rows]
        if self._bytes:
            # 255 - value is value ^ 255. Kinds are 0 or 255 here, made once.
            np.bitwise_xor(pixels, row.kinds, out=combined)
            np.divide(combined, self._scale, out=result)
            return
        np.add(pixels, row.kinds, out=combined)
        for entries, channel in zip(combined, result, strict=True):
            np.copyto(room.entries[:rows], entries)
            np.take(self._fractions, room.entries[:rows], out=channel, mode="clip")

    def _spread(self, width: int) -> Spread:
        """Return the look-ups of one row of blocks, of images of a width."""
        if width not in self._spreads:
            if len(self._spreads) >= MAX_SIZES:
                self._spreads.clear()
            made = spread(self._lookups, self._block_size, self._block_size, width)
            kinds = self._combined(made.kinds).reshape(CHANNELS, 1, -1)
            self._spreads[width] = Spread(made.order, kinds)
        return self._spreads[width]

    def _combined(self, kinds: NDArray[np.int64]) -> NDArray[Any]:
        """Return what a value is combined with: a byte, or a table's start."""
        if self._bytes:
            return BYTE_MAX * kinds.astype(np.uint8)
        return (kinds * BYTES).astype(np.uint16)


class _Room(NamedTuple):
    """What the strips of one call are computed in, allocated once.

    Attributes:
        pixels: A strip, row of blocks after row, (rows, 3, M·W).
        taken: The same in another order.
        combined: Bytes, or entries of the tables, (3, rows, M·W).
        entries: One channel of them, as numpy's look-up takes them.
    """

    pixels: NDArray[np.uint8]
    taken: NDArray[np.uint8]
    combined: NDArray[Any]
    entries: NDArray[np.int64]

    @classmethod
    def of(cls, row: Spread, rows: int) -> Self:
        values, looked_up = row.kinds.shape[2], row.kinds.dtype != np.uint8
        moved = (rows, CHANNELS, values) if row.order is not None else (0, 0, 0)
        return cls(
            np.empty(moved, np.uint8),
            np.empty(moved, np.uint8),
            np.empty((CHANNELS, rows, values), row.kinds.dtype),
            np.empty((rows if looked_up else 0, values), np.int64),
        )
