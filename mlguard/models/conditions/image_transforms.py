"""The torch back-end of keyed transforms, for training and evaluation on any device.

Every chain of transforms reduces to two tables: which value of the image to take, and
its new value, already divided. They are made once from mlguard.transforms, so no device
can round differently. docs/spec/transforms-v1.md, section 5.
"""

from collections.abc import Callable
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from mlguard.errors import ShapeError
from mlguard.models.conditions.blocks import cut, join
from mlguard.rules import BYTE_MAX
from mlguard.transforms import Orthogonal, Transform
from mlguard.transforms.blocks import check_images
from mlguard.transforms.lookups import spread

MAX_SIZES = 8  # image sizes whose tables are kept; at most 2.4 MB each for 256×256

Device = torch.device | str
Change = Callable[[Tensor], Tensor]


class TorchTransform:
    """Apply a keyed transform to batches of images on a device.

    It is not an nn.Module and has no buffers, so that no key material ends up in a
    `state_dict`, a checkpoint or an exported graph.

    Args:
        transform: The transform, from mlguard.transforms.
        device: The device of the images.
    """

    def __init__(self, transform: Transform, device: Device = "cpu") -> None:
        self._transform = transform
        self._device = torch.device(device)
        if transform.lookups is None:
            raise TypeError(f"no torch back-end for {type(transform).__name__}")
        self._lookups = transform.lookups
        tables = self._lookups.tables.astype(np.float32).ravel()
        fractions = tables / np.float32(transform.scale)
        self._fractions = torch.from_numpy(fractions).to(self._device)
        # Without ffx, bytes stay bytes: 255 - value is value ^ 255, which is faster.
        self._bytes = self._lookups.inverts_only
        self._sizes: dict[tuple[int, int], _Spread] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Transform images into the model's input before normalization.

        Shape:
            images   (N, 3, H, W) uint8, RGB, on the device
            returns  (N, 3, H, W) float32 in [0, 1], the same bits as numpy's `apply`

        Raises:
            ShapeError: Not uint8 (N, 3, H, W), or M does not divide H and W.
        """
        check_images(tuple(images.shape), self._transform.block_size)
        if images.dtype != torch.uint8:
            raise ShapeError(f"expected uint8 images, got {images.dtype}")
        spread = self._spread(images.shape[2], images.shape[3])
        pixels = images.flatten(1)
        if self._bytes:
            return plain(spread.pick(pixels) ^ spread.kinds).view(images.shape)
        result = torch.empty(pixels.shape, device=images.device)
        # Intermediate values of one image stay in a CPU's cache: twice as fast there.
        # A GPU is faster in few large steps.
        together = 1 if images.device.type == "cpu" else max(len(images), 1)
        for start in range(0, len(images), together):
            part = slice(start, start + together)
            entries = (spread.pick(pixels[part]) + spread.kinds).flatten()
            torch.index_select(self._fractions, 0, entries, out=result[part].view(-1))
        return result.view(images.shape)

    def _spread(self, height: int, width: int) -> "_Spread":
        """Spread order and kinds over an image, once per image size."""
        if (height, width) not in self._sizes:
            if len(self._sizes) >= MAX_SIZES:
                self._sizes.clear()
            self._sizes[height, width] = self._new_spread(height, width)
        return self._sizes[height, width]

    def _new_spread(self, height: int, width: int) -> "_Spread":
        order, kinds = spread(self._lookups, self._transform.block_size, height, width)
        words = kinds.astype(np.uint8 if self._bytes else np.int32)
        combined = words * 255 if self._bytes else words * 256
        return _Spread(
            None if order is None else torch.from_numpy(order).to(self._device),
            torch.from_numpy(combined).to(self._device),
        )

    def __repr__(self) -> str:
        return f"TorchTransform({self._transform!r}, device={str(self._device)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


class TorchOrthogonal:
    """Apply a keyed orthogonal map to batches of images on a device.

    It is not an nn.Module, for the same reason as TorchTransform.

    Args:
        transform: The map, from mlguard.transforms.
        device: The device of the images.
    """

    def __init__(self, transform: Orthogonal, device: Device = "cpu") -> None:
        self._transform = transform
        # Whole numbers whose sums stay below 2²⁴: no order of summation rounds them.
        self._matrix = torch.from_numpy(transform.matrix.astype(np.float32)).to(device)
        self._scale = torch.full((), transform.scale, device=device)

    def __call__(self, images: Tensor) -> Tensor:
        """Transform images into the model's input before normalization.

        Shape:
            images   (N, 3, H, W) uint8, RGB, on the device
            returns  (N, 3, H, W) float32, the same bits as numpy's `apply`

        Raises:
            ShapeError: Not uint8 (N, 3, H, W), or M does not divide H and W.
        """
        size = self._transform.block_size
        check_images(tuple(images.shape), size)
        if images.dtype != torch.uint8:
            raise ShapeError(f"expected uint8 images, got {images.dtype}")
        centred = 2 * cut(images, size).float() - BYTE_MAX
        values = centred @ self._matrix.T + self._scale / 2
        return join(values, size, tuple(images.shape[-2:])) / self._scale

    def __repr__(self) -> str:
        return f"TorchOrthogonal({self._transform!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


class _Spread(NamedTuple):
    """The look-ups for every value of an image of one size.

    Attributes:
        order: Which value of the image to take, (3·H·W,) int64; None for its own.
        kinds: What to combine it with, (3·H·W,): 0 or 255 for bytes, otherwise the
            start of a table.
    """

    order: Tensor | None
    kinds: Tensor

    def pick(self, pixels: Tensor) -> Tensor:
        """Put values in order. Shape: (N, 3·H·W) to (N, 3·H·W)."""
        if self.order is None:
            return pixels
        # gather and not index_select: three times as fast on bytes, on a CPU
        return pixels.gather(1, self.order.expand(len(pixels), -1))

    def __repr__(self) -> str:
        return "_Spread()"


def torch_transform(transform: Transform, device: Device = "cpu") -> Change:
    """Return the back-end of a keyed transform on a device."""
    if isinstance(transform, Orthogonal):
        return TorchOrthogonal(transform, device)
    return TorchTransform(transform, device)


def plain(images: Tensor) -> Tensor:
    """Scale images without any transform, as for a user without a key.

    Shape:
        images   (N, 3, H, W) uint8, RGB
        returns  (N, 3, H, W) float32 in [0, 1]
    """
    # A divisor on the device, not a number: CUDA multiplies by the reciprocal of a
    # number, which differs in the last bit.
    return images.float() / torch.full((), 255.0, device=images.device)
