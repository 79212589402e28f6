"""Encode images and masks as PNG.

Everything that writes or shows a picture uses this module.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlguard.pictures.class_colours import MOST, colorize, colours

OVERLAY_WEIGHT = 0.5  # of the mask's colours, over the image
BARS = 5  # classes in a chart of one answer
BAR, GAP, CHART_WIDTH = 20, 3, 100  # pixels: height of a bar with its gaps, and width
PAPER = 238  # the grey behind bars


def image_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an image.

    Shape:
        image  (3, H, W) uint8, RGB
    """
    return _png(_picture(image))


def mask_png(mask: NDArray[np.uint8]) -> bytes:
    """Encode a mask as an index PNG, whose values are classes, with VOC's palette.

    Shape:
        mask  (H, W) uint8
    """
    picture = Image.fromarray(np.ascontiguousarray(mask)).convert("P")
    picture.putpalette(colours(MOST).tobytes())
    return _png(picture)


def overlay_png(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> bytes:
    """Encode an image under its mask's colours.

    Shape:
        image  (3, H, W) uint8, RGB
        mask   (H, W) uint8
    """
    painted = Image.fromarray(colorize(mask))
    return _png(Image.blend(_picture(image), painted, OVERLAY_WEIGHT))


def answer_png(shares: NDArray[np.float64]) -> bytes:
    """Draw the most probable classes as bars, each in its class's colour.

    Shape:
        shares  (classes,), the probability of each class
    """
    best = np.argsort(-shares, kind="stable")[:BARS]
    chart = np.full((BARS * BAR, CHART_WIDTH, 3), PAPER, dtype=np.uint8)
    for place, number in enumerate(best):
        top, width = place * BAR, round(float(shares[number]) * CHART_WIDTH)
        bar = slice(top + GAP, top + BAR - GAP)
        chart[bar, :width] = colours(MOST)[int(number) % MOST]
    return _png(Image.fromarray(chart))


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
