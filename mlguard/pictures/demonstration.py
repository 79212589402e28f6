"""Pictures of what transforms do to an image, never under a protected model's subkeys.

An image beside its correctly transformed version reveals the whole key: one 256 × 256
image is enough, for every method and block size. So pictures are made with a key that
protects nothing, or under an id that no model has.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlguard.keys import PROTECTION_ID_BYTES, ModelKey, ModelSubkeys
from mlguard.rules import BYTE_MAX
from mlguard.transforms import block_sizes_of, derive_transform

DEMONSTRATION = b"mlguard: a key for pictures; public, and it protects nothing"
BLOCK_SIZES = (2, 4, 8, 16, 32)  # pixels; what arXiv:2107.09362, fig. 4, spans
THUMBNAIL = 128  # pixels; transformed images are noise, and noise does not compress


def demonstration_subkeys() -> ModelSubkeys:
    """Return the subkeys of a public key, which match no protected model."""
    digest = hashlib.sha256(DEMONSTRATION).digest()
    return ModelKey(digest).for_model(digest[:PROTECTION_ID_BYTES])


def transformed(
    image: NDArray[np.uint8],
    methods: Sequence[str],
    block_sizes: Sequence[int],
    subkeys: ModelSubkeys,
) -> list[NDArray[np.uint8]]:
    """Show what methods do to an image, at each block size.

    Args:
        image: The plain image.
        methods: Applied in their order.
        block_sizes: Each divides the image's height and width.
        subkeys: Never those of a protected model.

    Shape:
        image    (3, H, W) uint8
        returns  for each block size (3, H, W) uint8; black is 0, white the scale, and
        values beyond are clipped
    """
    transforms = (derive_transform(methods, subkeys, size) for size in block_sizes)
    return [
        np.rint(transform.apply(image[None])[0].clip(0, 1) * BYTE_MAX).astype(np.uint8)
        for transform in transforms
    ]


def series_of(methods: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each method alone, and then all together if there are several."""
    alone: list[tuple[str, ...]] = [(method,) for method in methods]
    return alone if len(methods) == 1 else [*alone, tuple(methods)]


def block_sizes_for(
    height: int, width: int, own: int, methods: Sequence[str]
) -> list[int]:
    """Return the block sizes to show: the usual ones and the model's, if they fit."""
    candidates = sorted({*BLOCK_SIZES, own} & set(block_sizes_of(methods)))
    return [size for size in candidates if not (height % size or width % size)]


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image so that its sides are multiples of the usual block sizes.

    Shape:
        image    (3, H, W) uint8
        returns  (3, h, w) uint8, h and w at most THUMBNAIL
    """
    step = max(BLOCK_SIZES)
    height, width = image.shape[1:]
    share = min(1.0, THUMBNAIL / max(height, width))
    sides = [max(step, round(side * share / step) * step) for side in (width, height)]
    picture = Image.fromarray(image.transpose(1, 2, 0))
    resized = picture.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)
