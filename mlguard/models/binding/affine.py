"""Block-wise affine maps: a keyed transform of blocks, as matrix and offset.

The first layer of a model can undo an affine transform, so that a trained model is
bound to a key without training (stem.py). The transforms that move, invert or mix
values are affine: shf, np and their compositions, and orthogonal. The module knows no
model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.errors import BindingError
from mlguard.rules import BYTE_MAX
from mlguard.transforms import (
    Compose,
    NegativePositive,
    Orthogonal,
    PixelShuffle,
    Transform,
)
from mlguard.transforms.blocks import block_length

MAX_LENGTH = 3072  # L = 3·32²; a matrix of L² numbers is then 75 MB


@dataclass(frozen=True)
class AffineBlocks:
    """The map b ↦ matrix·b + offset of every flattened block of an image.

    It is key material, like the transform it was made from: not shown when printed,
    never pickled.

    Attributes:
        block_size: M, in pixels.
        matrix: (L, L) float64, invertible; L = 3·M², in the order row, column, channel.
        offset: (L,) float64.
    """

    block_size: int
    matrix: NDArray[np.float64] = field(repr=False)
    offset: NDArray[np.float64] = field(repr=False)

    def normalized(self, mean: Sequence[float], std: Sequence[float]) -> Self:
        """Return the same map between normalized images.

        If the map takes pixels x in [0, 1] to x', this one takes (x - mean) / std to
        (x' - mean) / std.

        Args:
            mean: The mean to subtract, one number for each channel.
            std: The standard deviation to divide by, one number for each channel.
        """
        pixels = self.block_size**2
        centre, spread = np.tile(mean, pixels), np.tile(std, pixels)
        matrix = self.matrix * spread / spread[:, None]
        offset = (self.matrix @ centre + self.offset - centre) / spread
        return type(self)(self.block_size, matrix, offset)

    def inverse(self) -> Self:
        """Return the inverse map."""
        matrix = np.asarray(np.linalg.inv(self.matrix), dtype=np.float64)
        return type(self)(self.block_size, matrix, -matrix @ self.offset)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an affine map of blocks is key material and is never pickled")


def check_affine(methods: Sequence[str], block_size: int) -> None:
    """Refuse transforms that cannot be written as an affine map of blocks.

    Args:
        methods: Names of transforms.METHODS.
        block_size: M, in pixels.

    Raises:
        BindingError: A method is not affine, or the blocks are too large.
    """
    if "ffx" in methods:
        raise BindingError(
            "ffx cannot be folded into a model: it looks values up in a table, which "
            "no layer can compute",
            hint="shf, np, orthogonal and channels can be folded; for ffx, train with "
            "`mlguard protect`",
        )
    length = block_length(block_size)
    if length > MAX_LENGTH:
        raise BindingError(
            f"a transform of {block_size} x {block_size} blocks cannot be folded into "
            f"a model: a block has {length} values, the limit is {MAX_LENGTH}",
            hint="choose a smaller block_size, or train with `mlguard protect`",
        )


def affine_of(transform: Transform) -> AffineBlocks:
    """Write a transform as an affine map of pixels in [0, 1].

    Raises:
        BindingError: It is not affine, or its blocks are too large.
    """
    length = transform.length
    check_affine(transform.name.split("+"), transform.block_size)
    match transform:
        case PixelShuffle():
            matrix, offset = np.eye(length)[transform.order], np.zeros(length)
        case NegativePositive():
            mask = transform.mask.astype(np.float64)
            matrix, offset = np.diag(1 - 2 * mask), mask
        case Orthogonal():
            # Pixels go to (matrix·(2·b - 255) + scale / 2) / scale, and b is 255·x.
            matrix = transform.matrix.astype(np.float64) * (2 * BYTE_MAX)
            matrix /= transform.scale
            offset = 0.5 - matrix.sum(1) / 2
        case Compose():
            matrix, offset = np.eye(length), np.zeros(length)
            for stage in map(affine_of, transform.transforms):
                matrix = stage.matrix @ matrix
                offset = stage.matrix @ offset + stage.offset
        case _:
            raise TypeError(f"no affine map for {type(transform).__name__}")
    return AffineBlocks(transform.block_size, matrix, offset)
