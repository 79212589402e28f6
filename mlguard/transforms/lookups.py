"""Reduce a chain of transforms to look-ups, and apply them fast in numpy.

`Transform.values` defines a transform; here the same bits are computed a strip of block
rows at a time, so that intermediate values stay in a core's cache. The torch back-end
looks up in the same tables. docs/spec/transforms-v1.md, section 5.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.rules import BYTE_MAX
from mlguard.transforms.blocks import CHANNELS, from_blocks, to_blocks

BYTES = BYTE_MAX + 1  # entries of a table
STRIP_VALUES = 1 << 17  # of one strip; with its tables about a core's cache
MAX_SIZES = 8  # sizes of strips whose tables are kept


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
    """Apply look-ups to images a strip at a time.

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
        self._spreads: dict[tuple[int, int], Spread] = {}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Transform and divide. Shape: (N, 3, H, W) uint8 to float32."""
        height, width = images.shape[2:]
        shown = np.empty(images.shape, dtype=np.float32)
        rows = self._rows(height, width)
        for image, result in zip(images, shown, strict=True):
            for top in range(0, height, rows):
                part = slice(top, top + rows)
                self._strip(image[:, part], result[:, part])
        return shown

    def __repr__(self) -> str:
        return "Strips()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")

    def _rows(self, height: int, width: int) -> int:
        """Return the rows of pixels in a strip: whole blocks."""
        blocks = STRIP_VALUES // (CHANNELS * width * self._block_size)
        return min(height, max(1, blocks) * self._block_size)

    def _strip(self, pixels: NDArray[np.uint8], result: NDArray[np.float32]) -> None:
        order, kinds = self._spread(*pixels.shape[1:])
        if order is not None:
            taken = np.ascontiguousarray(pixels).ravel()
            # Nothing is clipped: but `raise` would write into a copy of the result.
            pixels = np.take(taken, order, mode="clip").reshape(pixels.shape)
        if self._bytes:
            # 255 - value is value ^ 255. Kinds are 0 or 255 here, made once.
            np.divide(pixels ^ kinds.reshape(pixels.shape), self._scale, out=result)
            return
        entries = pixels + kinds.reshape(pixels.shape)
        result[:] = np.take(self._fractions, entries, mode="clip")

    def _spread(self, height: int, width: int) -> Spread:
        key = (height, width)
        if key not in self._spreads:
            if len(self._spreads) >= MAX_SIZES:
                self._spreads.clear()
            made = spread(self._lookups, self._block_size, height, width)
            self._spreads[key] = Spread(made.order, self._combined(made.kinds))
        return self._spreads[key]

    def _combined(self, kinds: NDArray[np.int64]) -> NDArray[Any]:
        """Return what a value is combined with: a byte, or a table's start."""
        if self._bytes:
            return BYTE_MAX * kinds.astype(np.uint8)
        return kinds * BYTES
