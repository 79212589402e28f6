"""The base of all keyed transforms of images.

A transform works on blocks of integers; everything else (cutting images into blocks,
dividing, refusing wrong shapes) is the same for all and is here.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.errors import ShapeError
from mlguard.keys import ModelSubkeys
from mlguard.rules import BYTE_MAX
from mlguard.transforms.blocks import (
    block_length,
    check_images,
    from_blocks,
    to_blocks,
)
from mlguard.transforms.lookups import Lookups, Strips


class Transform(ABC):
    """A keyed, invertible transform of the blocks of an image.

    All blocks of all images are treated alike. A transform is key material: it shows
    no order, mask or table when printed, its arrays are read-only, and it refuses to be
    pickled.

    Attributes:
        name: One of METHODS, or several joined by "+".
        block_size: M, in pixels.
        length: L = 3·M², the number of values in a block.
    """

    name: str
    takes_bytes_only: ClassVar[bool] = True  # False if it also works above 255
    bounded: ClassVar[bool] = True  # False if values leave 0 … scale

    def __init__(self, block_size: int) -> None:
        self.length = block_length(block_size)
        self.block_size = block_size

    @property
    @abstractmethod
    def key_space_bits(self) -> float:
        """Return log2 of the number of different transforms that a key can choose."""

    @abstractmethod
    def slots(self) -> dict[str, NDArray[Any]]:
        """Return the tensors of the ONNX key slots, by slot name: key material."""

    @abstractmethod
    def transform_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Transform flattened blocks. Shape: (…, L) to (…, L)."""

    @abstractmethod
    def restore_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Undo `transform_blocks`.

        Raises:
            ValueError: This transform cannot give these values.
        """

    @property
    def scale(self) -> float:
        """The divisor of the integers: the largest value that they can have."""
        return float(BYTE_MAX)

    def values(self, images: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Transform images, up to and without the final division.

        This is the stage in which every back-end must agree bit for bit.

        Shape:
            images   (N, 3, H, W) uint8, RGB
            returns  (N, 3, H, W) int32, 0 … scale where `bounded`

        Raises:
            ShapeError: Not uint8 (N, 3, H, W), or M does not divide H and W.
        """
        self._check(images)
        blocks = to_blocks(images, self.block_size).astype(np.int32)
        return from_blocks(self.transform_blocks(blocks), self.block_size)

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Transform images into the model's input before normalization.

        Shape:
            images   (N, 3, H, W) uint8, RGB
            returns  (N, 3, H, W) float32, in [0, 1] where `bounded`

        Raises:
            ShapeError: Not uint8 (N, 3, H, W), or M does not divide H and W.
        """
        if self._strips is None:
            return self.values(images).astype(np.float32) / np.float32(self.scale)
        self._check(images)
        return self._strips(images)

    def after(self, lookups: Lookups) -> Lookups | None:
        """What lookups become when this transform comes after them.

        None if it does more than look values up.
        """
        return None

    @cached_property
    def lookups(self) -> Lookups | None:
        """This transform as lookups, for back-ends. Key material."""
        return self.after(Lookups.unchanged(self.length))

    @cached_property
    def _strips(self) -> Strips | None:
        if self.lookups is None:
            return None
        return Strips(self.lookups, self.block_size, self.scale)

    def _check(self, images: NDArray[np.uint8]) -> None:
        check_images(images.shape, self.block_size)
        if images.dtype != np.uint8:
            raise ShapeError(f"expected uint8 images, got {images.dtype}")

    def inverse(self) -> "Inverse":
        """Return the exact inverse: with the key, anybody can restore the image."""
        return Inverse(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(block_size={self.block_size})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


class Inverse:
    """Turn transformed images back into the images they were."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Restore images.

        Shape:
            pixels   (N, 3, H, W) float32 in [0, 1], from `Transform.apply`
            returns  (N, 3, H, W) uint8, RGB

        Raises:
            ShapeError: Not (N, 3, H, W), or M does not divide H and W.
            ValueError: No image gives these pixels under this transform.
        """
        size, scale = self._transform.block_size, self._transform.scale
        check_images(pixels.shape, size)
        if self._transform.bounded and not ((pixels >= 0) & (pixels <= 1)).all():
            raise ValueError("expected pixels in [0, 1]")
        values = np.rint(pixels.astype(np.float64) * scale).astype(np.int32)
        restored = self._transform.restore_blocks(to_blocks(values, size))
        if restored.min(initial=0) < 0 or restored.max(initial=0) > BYTE_MAX:
            raise ValueError("no image gives these pixels under this transform")
        return from_blocks(restored.astype(np.uint8), size)

    def __repr__(self) -> str:
        return f"Inverse({self._transform!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transform is key material and is never pickled")


class DerivedTransform(Transform):
    """A transform that one method of METHODS derives from subkeys."""

    @classmethod
    @abstractmethod
    def derive(cls, subkeys: ModelSubkeys, block_size: int) -> Self:
        """Derive the transform of one protected model.

        Raises:
            ValueError: The block size is not one of BLOCK_SIZES.
        """

    @staticmethod
    @abstractmethod
    def key_space(block_size: int) -> float:
        """Return the bits of choice that `derive` has at a block size; needs no key."""


def checked_mask(mask: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Copy a mask into a read-only array of one flag per position.

    Raises:
        ValueError: Not `length` booleans.
    """
    if mask.shape != (length,) or mask.dtype != np.bool_:
        raise ValueError(f"expected {length} booleans, got {mask.shape} {mask.dtype}")
    copy = mask.copy()
    copy.flags.writeable = False
    return copy
