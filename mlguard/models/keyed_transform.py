"""The torch back-end of keyed transforms: for training and evaluation, on any device.

Every chain of transforms comes down to two lookups: which pixel of the image to take,
and what its value becomes. Both are tables made once from the numpy reference in
mlguard.transforms, so nothing is computed on the device and no device can round
differently. docs/spec/transforms-v1.md, section 5.
"""

from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard.errors import ShapeError
from mlguard.transforms import (
    Compose,
    FormatPreserving,
    NegativePositive,
    PixelShuffle,
    Transform,
)
from mlguard.transforms.blocks import CHANNELS, check_images, from_blocks, to_blocks

MAX_SIZES = 8  # image sizes whose tables are kept; 2.4 MB each for 256×256

Device = torch.device | str


class TorchTransform:
    """Apply a keyed transform to batches of images on a device.

    Not an nn.Module and without buffers, so that no key material lands in a
    `state_dict`, a checkpoint or an exported graph.

    Args:
        transform: The transform, from mlguard.transforms.
        device: Where the images will be.
    """

    def __init__(self, transform: Transform, device: Device = "cpu") -> None:
        order, kinds, tables = _lookups(transform)
        self._transform = transform
        self._device = torch.device(device)
        self._order, self._kinds = order, kinds
        fractions = tables.astype(np.float32) / np.float32(transform.scale)
        self._fractions = torch.from_numpy(fractions.ravel()).to(self._device)
        self._sizes: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Transform images into what the model sees before normalization.

        Shape:
            images   (N, 3, H, W) uint8, RGB, on the device
            returns  (N, 3, H, W) float32 in [0, 1], the same bits as numpy's `apply`

        Raises:
            ShapeError: Not uint8 (N, 3, H, W), or M does not divide H and W.
        """
        check_images(tuple(images.shape), self._transform.block_size)
        if images.dtype != torch.uint8:
            raise ShapeError(f"expected uint8 images, got {images.dtype}")
        sources, offsets = self._tables_for(images.shape[2], images.shape[3])
        pixels = images.flatten(1)
        if self._order is not None:
            # gather and not index_select: three times as fast on bytes, on a CPU
            pixels = pixels.gather(1, sources.expand(len(images), -1))
        entries = pixels + offsets if len(offsets) else pixels.int()
        chosen = self._fractions.index_select(0, entries.flatten())
        return chosen.view(images.shape)

    def _tables_for(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Spread the tables of one block over an image, once per image size."""
        if (height, width) not in self._sizes:
            if len(self._sizes) >= MAX_SIZES:
                self._sizes.clear()
            self._sizes[height, width] = self._spread(height, width)
        return self._sizes[height, width]

    def _spread(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        size = self._transform.block_size
        shape = (1, CHANNELS, height, width)
        numbers = np.arange(CHANNELS * height * width).reshape(shape)
        blocks = to_blocks(numbers, size)
        sources = np.empty(0, dtype=np.int64)
        if self._order is not None:
            sources = from_blocks(blocks[..., self._order], size).ravel()
        offsets = np.empty(0, dtype=np.int32)
        if self._kinds.any():
            kinds = np.broadcast_to(256 * self._kinds, blocks.shape)
            offsets = from_blocks(kinds, size).ravel()
        return (
            torch.from_numpy(sources).to(self._device),
            torch.from_numpy(offsets).to(self._device),
        )

    def __repr__(self) -> str:
        return f"TorchTransform({self._transform!r}, device={str(self._device)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


def plain(images: Tensor) -> Tensor:
    """Scale images without any transform: what a model sees when there is no key.

    Shape:
        images   (N, 3, H, W) uint8, RGB
        returns  (N, 3, H, W) float32 in [0, 1]
    """
    # A divisor on the device, not a number: CUDA multiplies by the reciprocal of a
    # number, which differs in the last bit.
    return images.float() / torch.full((), 255.0, device=images.device)


def _lookups(
    transform: Transform,
) -> tuple[NDArray[np.int64] | None, NDArray[np.int32], NDArray[np.int32]]:
    """Bring a chain of transforms down to lookups.

    Value i of a transformed block is tables[kinds[i], block[order[i]]].

    Shape:
        returns  order (L,) or None where it is the identity, kinds (L,),
                 tables (K, 256)
    """
    order: NDArray[np.int64] | None = None
    kinds = np.zeros(transform.length, dtype=np.int32)
    tables = np.arange(256, dtype=np.int32)[None]
    stages = transform.transforms if isinstance(transform, Compose) else (transform,)
    for stage in stages:
        match stage:
            case PixelShuffle():
                order = stage.order if order is None else order[stage.order]
                kinds = kinds[stage.order]
                continue
            case NegativePositive():
                table = 255 - np.arange(256, dtype=np.int32)
            case FormatPreserving():
                table = stage.table
            case _:
                raise TypeError(f"no torch back-end for {type(stage).__name__}")
        kinds = kinds + np.int32(len(tables)) * stage.mask.astype(np.int32)
        tables = np.concatenate([tables, table[tables]])
    return order, kinds, tables
