"""Cut images into blocks and put them together again.

A block of M × M pixels is flattened in the order (row, column, channel), so it has
L = 3·M² values. This is the order of ONNX SpaceToDepth, of DepthToSpace in mode DCR,
and of the research code. docs/spec/transforms-v1.md, section 1.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlguard.errors import ShapeError
from mlguard.rules import BLOCK_SIZES

CHANNELS = 3

Scalar = TypeVar("Scalar", bound=np.generic)


def block_length(block_size: int) -> int:
    """Return the number of values in a block, L = 3·M².

    Raises:
        ValueError: The block size is not one of BLOCK_SIZES.
    """
    if block_size not in BLOCK_SIZES:
        sizes = ", ".join(map(str, BLOCK_SIZES))
        raise ValueError(f"expected a block size of {sizes}, got {block_size}")
    return CHANNELS * block_size**2


def check_images(shape: tuple[int, ...], block_size: int) -> None:
    """Refuse a shape that does not hold whole blocks of RGB images.

    Raises:
        ShapeError: Not (N, 3, H, W), empty, or M does not divide H and W.
    """
    if len(shape) != 4 or shape[1] != CHANNELS or 0 in shape[2:]:
        raise ShapeError(f"expected images (N, 3, H, W), got {tuple(shape)}")
    height, width = shape[2:]
    if height % block_size or width % block_size:
        raise ShapeError(
            f"expected height and width divisible by {block_size}, "
            f"got {height}×{width}",
            hint="pad with mlguard.transforms.pad_to_blocks and crop the masks",
        )


def to_blocks(images: NDArray[Scalar], block_size: int) -> NDArray[Scalar]:
    """Cut images into flattened blocks.

    Shape:
        images   (N, 3, H, W)
        returns  (N, H/M, W/M, L), a copy
    """
    size = block_size
    count, _, height, width = images.shape
    rows, columns = height // size, width // size
    cut = images.reshape(count, CHANNELS, rows, size, columns, size)
    blocks = cut.transpose(0, 2, 4, 3, 5, 1)  # (N, H/M, W/M, row, column, channel)
    return blocks.reshape(count, rows, columns, CHANNELS * size**2)


def from_blocks(blocks: NDArray[Scalar], block_size: int) -> NDArray[Scalar]:
    """Put flattened blocks together; undoes `to_blocks`.

    Shape:
        blocks   (N, H/M, W/M, L)
        returns  (N, 3, H, W), C-contiguous
    """
    size = block_size
    count, rows, columns, _ = blocks.shape
    cut = blocks.reshape(count, rows, columns, size, size, CHANNELS)
    images = cut.transpose(0, 5, 1, 3, 2, 4)
    return images.reshape(count, CHANNELS, rows * size, columns * size)


def pad_to_blocks(images: NDArray[Any], block_size: int) -> NDArray[Any]:
    """Repeat the last row and column until M divides height and width.

    Shape:
        images   (…, H, W)
        returns  (…, H', W'), H' and W' the next multiples of M; the same array
                 when nothing is missing

    Raises:
        ShapeError: The images have no pixels.
    """
    height, width = images.shape[-2:]
    if not height or not width:
        raise ShapeError(f"expected at least one pixel, got {height}×{width}")
    below, right = -height % block_size, -width % block_size
    if not below and not right:
        return images
    still = [(0, 0)] * (images.ndim - 2)
    return np.pad(images, [*still, (0, below), (0, right)], mode="edge")
