"""The colours of classes, for index PNGs and overlays.

The colour map is PASCAL VOC's, which most tools for masks know: a rule turns a class's
number into its colour, so there is no table to ship and any two programs agree.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mlguard.rules import MAX_CLASSES

MOST = MAX_CLASSES["segmentation"]
VOID = 255  # VOC's number for pixels without a label

Rgb = tuple[int, int, int]


def palette(classes: int = MOST) -> tuple[Rgb, ...]:
    """Return the colours of classes 0 … classes-1.

    Bits 0, 3 and 6 of a class's number become the highest bits of red; bits 1, 4 and 7
    of green; bits 2 and 5 of blue. So neighbouring classes differ strongly.

    Raises:
        ValueError: `classes` is not in 1 … 256.
    Source: VOCcode/VOClabelcolormap.m of the PASCAL VOC 2012 development kit.

    Example:
        >>> palette(3)
        ((0, 0, 0), (128, 0, 0), (0, 128, 0))
        >>> palette()[VOID]
        (224, 224, 192)
    """
    if not 1 <= classes <= MOST:
        raise ValueError(f"expected 1 to {MOST} classes, got {classes}")
    return tuple((red, green, blue) for red, green, blue in colours(classes).tolist())


@cache
def colours(classes: int) -> NDArray[np.uint8]:
    """Return the same as an array, made once. Shape: (classes, 3) uint8, read only."""
    made = np.stack([_colour(index) for index in range(classes)]).astype(np.uint8)
    made.flags.writeable = False
    return made


def colorize(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint every pixel in the colour of its class.

    Shape:
        mask     (..., H, W) uint8
        returns  (..., H, W, 3) uint8
    """
    if mask.dtype != np.uint8:
        raise TypeError(f"expected a mask of uint8, got {mask.dtype}")
    painted: NDArray[np.uint8] = colours(MOST)[mask]
    return painted


def _colour(index: int) -> NDArray[np.int64]:
    channels = np.arange(3)
    colour = np.zeros(3, dtype=np.int64)
    for place in range(3):  # place 0 sets the highest bit of each channel
        colour |= ((index >> (3 * place + channels)) & 1) << (7 - place)
    return colour
