"""Cut images into blocks and join them again, as mlguard.transforms.blocks does."""

from torch import Tensor

from mlguard.transforms.blocks import CHANNELS


def cut(images: Tensor, block_size: int) -> Tensor:
    """Cut images into flattened blocks, as mlguard.transforms.blocks does in numpy.

    Shape:
        images   (n, 3, H, W)
        returns  (n, H/M · W/M, L)
    """
    size = block_size
    count, _, height, width = images.shape
    pieces = images.reshape(
        count, CHANNELS, height // size, size, width // size, size
    ).permute(0, 2, 4, 3, 5, 1)
    return pieces.reshape(count, -1, CHANNELS * size**2)


def join(blocks: Tensor, block_size: int, size: tuple[int, ...]) -> Tensor:
    """Put flattened blocks together; undoes `cut`.

    Args:
        blocks: Blocks from `cut`.
        block_size: M, in pixels.
        size: Height and width of the images.

    Shape:
        blocks   (n, H/M · W/M, L)
        returns  (n, 3, H, W)
    """
    height, width = size
    rows, columns = height // block_size, width // block_size
    pieces = blocks.reshape(-1, rows, columns, block_size, block_size, CHANNELS)
    return pieces.permute(0, 5, 1, 3, 2, 4).reshape(-1, CHANNELS, height, width)
