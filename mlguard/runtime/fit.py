"""Fit images of any size to a model, and its masks to the images.

The bundle states the rule (docs/spec/bundle-v2.md, 2.1). Nothing else is scaled.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlguard.bundle import ImageFacts
from mlguard.errors import ShapeError

Back = Callable[[NDArray[Any]], NDArray[Any]]
RGB = 3  # channels
PER_PIXEL = 4  # axes of scores of pixels
LUMA = np.array([299, 587, 114], np.float32) / 1000  # ITU-R BT.601, as Pillow has it


def fit_images(
    images: NDArray[np.uint8], about: ImageFacts
) -> tuple[NDArray[np.uint8], Back]:
    """Return images as the model takes them, and the way back for answers about pixels.

    Args:
        images: 8-bit; RGB where the bundle has colours; grey models take RGB too.
        about: The image section of the bundle's manifest.

    Shape:
        images   (N, C, …) uint8
        returns  (N, channels, …) uint8, and a function of (…, H, W)

    Raises:
        ShapeError: The images have another shape or type.
    """
    axes = len(about.size) + 2
    wrong = images.ndim != axes or 0 in images.shape or images.dtype != np.uint8
    if wrong or not _has_channels(images, about):
        count, sides = _asked(about), "D, H, W" if axes > 4 else "H, W"
        raise ShapeError(
            f"expected images (N, {count}, {sides}) uint8, got {images.shape} "
            f"{images.dtype}"
        )
    coloured = _coloured(images, about)
    if about.resize.rule == "pad":
        return _padded(coloured, about.resize.multiple, len(about.size))
    return _scaled(coloured, about)


def crop(logits: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Remove the scores of padding; scores of whole images stay.

    Shape:
        logits  (N, classes, H, W) or (N, classes)
    """
    return logits[:, :, :height, :width] if logits.ndim == PER_PIXEL else logits


def _asked(about: ImageFacts) -> int:
    return 3 if about.colours in ("RGB", "BGR", "grey") else about.channels


def _has_channels(images: NDArray[np.uint8], about: ImageFacts) -> bool:
    return images.shape[1] in (_asked(about), about.channels)


def _coloured(images: NDArray[np.uint8], about: ImageFacts) -> NDArray[np.uint8]:
    if about.colours == "BGR":
        return np.ascontiguousarray(images[:, ::-1])
    if about.colours == "grey" and images.shape[1] == RGB:
        grey = np.tensordot(images.astype(np.float32), LUMA, axes=(1, 0))
        return np.asarray(np.rint(grey).astype(np.uint8)[:, None])
    return images


def _padded(
    images: NDArray[np.uint8], multiple: int, axes: int
) -> tuple[NDArray[np.uint8], Back]:
    sides = images.shape[2:]
    more = [(0, -side % multiple) for side in sides]
    kept: Any = (..., *map(slice, sides))

    def back(found: NDArray[Any]) -> NDArray[Any]:
        return found[kept] if found.ndim > axes else found

    if not any(after for _, after in more):
        return images, back
    return np.pad(images, [(0, 0), (0, 0), *more], mode="edge"), back


def _scaled(
    images: NDArray[np.uint8], about: ImageFacts
) -> tuple[NDArray[np.uint8], Back]:
    height, width = images.shape[2:]
    rows, columns = about.size
    if (height, width) == (rows, columns):
        return images, lambda found: found
    if about.resize.rule == "stretch":
        fitted = _resized(images, rows, columns)
        return fitted, lambda found: _nearest(found, height, width)
    shorter = about.resize.shorter_side or min(rows, columns)
    scale = max(shorter, rows, columns) if shorter < max(rows, columns) else shorter
    factor = scale / min(height, width)
    tall = max(rows, round(height * factor))
    wide = max(columns, round(width * factor))
    top, left = (tall - rows) // 2, (wide - columns) // 2
    middle = _resized(images, tall, wide)[:, :, top : top + rows, left : left + columns]

    def back(found: NDArray[Any]) -> NDArray[Any]:
        # The part cut off has no answer: it gets that of the nearest edge.
        around = [(top, tall - rows - top), (left, wide - columns - left)]
        whole = np.pad(found, [(0, 0)] * (found.ndim - 2) + around, mode="edge")
        return _nearest(whole, height, width)

    return np.ascontiguousarray(middle), back


def _resized(images: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Resize bilinearly with antialiasing, one channel at a time."""
    scaled = [
        np.asarray(
            Image.fromarray(plane).resize((columns, rows), Image.Resampling.BILINEAR)
        )
        for plane in images.reshape(-1, *images.shape[2:])
    ]
    return np.stack(scaled).reshape(*images.shape[:2], rows, columns)


def _nearest(found: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Resize masks or scores (…, h, w) to the nearest pixel."""
    height, width = found.shape[-2:]
    at = (np.arange(rows) * 2 + 1) * height // (2 * rows)
    across = (np.arange(columns) * 2 + 1) * width // (2 * columns)
    return found[..., at[:, None], across[None, :]]
