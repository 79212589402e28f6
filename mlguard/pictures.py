"""Encode images and masks as PNG.

Knows arrays and colours; everything that writes or shows a picture comes here.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlguard.palette import colorize, palette

OVERLAY_WEIGHT = 0.5  # of the mask's colours, over the image


def image_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an image.

    Shape:
        image  (3, H, W) uint8, RGB
    """
    return _png(_picture(image))


def mask_png(mask: NDArray[np.uint8]) -> bytes:
    """Encode a mask as an index PNG: its values are the classes, its palette VOC's.

    Shape:
        mask  (H, W) uint8
    """
    picture = Image.fromarray(np.ascontiguousarray(mask)).convert("P")
    picture.putpalette([value for colour in palette() for value in colour])
    return _png(picture)


def overlay_png(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> bytes:
    """Encode an image under its mask's colours.

    Shape:
        image  (3, H, W) uint8, RGB
        mask   (H, W) uint8
    """
    colours = Image.fromarray(colorize(mask))
    return _png(Image.blend(_picture(image), colours, OVERLAY_WEIGHT))


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
