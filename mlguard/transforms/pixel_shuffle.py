"""`shf`: put the values of every block in an order that only the key gives."""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlguard.keys import ModelSubkeys
from mlguard.transforms.base import DerivedTransform
from mlguard.transforms.blocks import CHANNELS, block_length
from mlguard.transforms.choice import permutation
from mlguard.transforms.key_space import permutation_bits
from mlguard.transforms.lookups import Lookups


class PixelShuffle(DerivedTransform):
    """Pixel shuffling: value i of a transformed block is value order[i] of the block.

    Args:
        block_size: M, in pixels.
        order: A permutation of 0 … 3·M²-1.

    Raises:
        ValueError: The order is not such a permutation.

    Source: arXiv:2107.09362, section 2.3. How the order follows from the key is our
        own rule: docs/spec/transforms-v1.md, section 2.
    """

    name = "shf"
    takes_bytes_only: ClassVar[bool] = False

    def __init__(self, block_size: int, order: ArrayLike) -> None:
        super().__init__(block_size)
        chosen = np.array(order, dtype=np.int64)
        positions = np.arange(self.length)
        if chosen.ndim != 1 or not np.array_equal(np.sort(chosen), positions):
            raise ValueError(f"expected a permutation of 0…{self.length - 1}")
        chosen.flags.writeable = False
        self.order: NDArray[np.int64] = chosen

    @classmethod
    def derive(cls, subkeys: ModelSubkeys, block_size: int) -> Self:
        """Derive the order from the subkey "shf/m=M/c=3"."""
        length = block_length(block_size)
        subkey = subkeys.derive(f"shf/m={block_size}/c={CHANNELS}")
        return cls(block_size, permutation(subkey, length))

    @staticmethod
    def key_space(block_size: int) -> float:
        """Return log2((3·M²)!), for example 202.9 bits at M=4."""
        return permutation_bits(block_length(block_size))

    @property
    def key_space_bits(self) -> float:
        """Return log2((3·M²)!)."""
        return self.key_space(self.block_size)

    def slots(self) -> dict[str, NDArray[Any]]:
        """Return the order. Shape: (L,) int64."""
        return {"shf.order": self.order}

    def transform_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Put values in the order."""
        return np.take(blocks, self.order, axis=-1)

    def after(self, lookups: Lookups) -> Lookups:
        """Put what they give in the order."""
        return lookups.reordered(self.order)

    def restore_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Put values back where they were."""
        return np.take(blocks, np.argsort(self.order), axis=-1)
