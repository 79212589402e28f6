"""`np`: invert the values of every block at positions that only the key gives."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys
from mlguard.rules import BYTE_MAX
from mlguard.transforms.base import DerivedTransform, checked_mask
from mlguard.transforms.blocks import CHANNELS, block_length
from mlguard.transforms.choice import half_mask
from mlguard.transforms.key_space import subset_bits
from mlguard.transforms.lookups import Lookups

NEGATIVE = BYTE_MAX - np.arange(BYTE_MAX + 1, dtype=np.int32)


class NegativePositive(DerivedTransform):
    """Negative/positive transformation: 255 - value where the mask is set.

    Args:
        block_size: M, in pixels.
        mask: One boolean for each of the 3·M² positions. Any number may be set: the
            published research code sets one fewer than half.

    Raises:
        ValueError: The mask is not 3·M² booleans.

    Source: arXiv:2107.09362, section 2.3. How the mask follows from the key is our
        own rule: docs/spec/transforms-v1.md, section 3.
    """

    name = "np"

    def __init__(self, block_size: int, mask: NDArray[np.bool_]) -> None:
        super().__init__(block_size)
        self.mask = checked_mask(np.asarray(mask), self.length)

    @classmethod
    def derive(cls, subkeys: ModelSubkeys, block_size: int) -> Self:
        """Derive the mask from the subkey "np/m=M/c=3"."""
        length = block_length(block_size)
        subkey = subkeys.derive(f"np/m={block_size}/c={CHANNELS}")
        return cls(block_size, half_mask(subkey, length))

    @staticmethod
    def key_space(block_size: int) -> float:
        """Return log2 C(3·M², 3·M²/2), for example 44.9 bits at M=4."""
        length = block_length(block_size)
        return subset_bits(length, length // 2)

    @property
    def key_space_bits(self) -> float:
        """Return log2 of the number of masks with as many positions set as this one."""
        return subset_bits(self.length, int(self.mask.sum()))

    def slots(self) -> dict[str, NDArray[Any]]:
        """Return the mask. Shape: (L, 1, 1) bool, to broadcast over blocks."""
        return {"np.mask": self.mask.reshape(-1, 1, 1)}

    def transform_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Invert the values that the mask selects."""
        return np.where(self.mask, np.int32(BYTE_MAX) - blocks, blocks)

    def after(self, lookups: Lookups) -> Lookups:
        """Invert what they give, where the mask selects it."""
        return lookups.substituted(self.mask, NEGATIVE)

    def restore_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Invert them again."""
        return self.transform_blocks(blocks)
