"""Convert a decoded image to 8-bit RGB, in one way for training and predicting.

A model must get images like those it was trained on, so both rooms convert here. The
module knows no files, formats or limits: each room has its own, and its own refusal.
"""

import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
AS_RGB = ("1", "L", "P", "RGB", "CMYK", "YCbCr")
ORIENTATION, UPRIGHT = 0x0112, 1  # EXIF's tag, and its value for "not turned"
STRIP_PIXELS = 1 << 20  # converted at a time
WITH_ALPHA = ("LA", "PA", "La", "RGBA", "RGBa")

# What Pillow's decoders raise on damaged files; they have no common base.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)


class UnknownMode(Exception):
    """An image mode without one obvious way to 8-bit RGB."""


def decode_rgb(
    image: Image.Image, notice: Callable[[str], None] | None = None
) -> NDArray[np.uint8]:
    """Decode an opened image to RGB, turned upright as its camera says.

    Grey is repeated in three channels and a palette looked up. Transparent pixels are
    composited on black, because the sender does not see the colour stored under them.
    16-bit grey keeps the high byte, as Pillow does for 16-bit colour.

    Args:
        image: An opened image, its size already checked.
        notice: Called with a few words for each conversion that loses something.

    Shape:
        returns  (H, W, 3) uint8

    Raises:
        UnknownMode: Its pixels are numbers of another kind; only their maker knows how
            they scale. It holds the mode's name.
        Exception: One of DAMAGED.
    """
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    width, height = image.size
    told: dict[str, None] = {}
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    # In strips: converting an image as a whole takes ten times the memory it ends in.
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(_rgb(strip, told.setdefault))
    for words in told:
        (notice or _ignore)(words)
    return pixels


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image: 1 for upright, up to 8."""
    try:
        found = image.getexif().get(ORIENTATION, UPRIGHT)
    except DAMAGED:
        return UPRIGHT
    return found if isinstance(found, int) and 1 <= found <= 8 else UPRIGHT


def _rgb(image: Image.Image, notice: Callable[[str], object]) -> Image.Image:
    if image.mode in SIXTEEN_BITS:
        notice("16-bit grey; the low byte of each pixel is dropped")
        high = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        return _opaque(image.convert("RGBA"), notice)
    if image.mode not in AS_RGB:
        raise UnknownMode(image.mode)
    if image.mode == "CMYK":
        notice("CMYK is converted without its colour profile")
    return image.convert("RGB")


def _opaque(image: Image.Image, notice: Callable[[str], object]) -> Image.Image:
    lowest, _ = image.getchannel("A").getextrema()
    if lowest == 255:
        return image.convert("RGB")
    notice("transparent pixels are composited on black")
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image).convert("RGB")


def _ignore(_: str) -> None:
    """Ignore a notice."""
