"""Read untrusted image files as the model's training images were: in 8-bit RGB.

Other kinds of images are converted if there is one obvious way, with a note for the
user where something is lost, and refused otherwise. docs/deploy.md has the table.
"""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlguard.errors import ImageError
from mlguard.files import read_bounded
from mlguard.images import DAMAGED, UnknownMode, decode_rgb
from mlguard.kinds import kind_of

MAX_PIXELS = 1 << 25  # 33 megapixels; the logits of 21 classes are then 2.8 GB
MAX_FILE_BYTES = 1 << 29  # 512 MiB: twice as many pixels at 8 bytes, not compressed
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
PHOTOGRAPHS = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SUFFIXES = frozenset({*PHOTOGRAPHS, ".bmp", ".gif", ".pbm", ".pgm", ".ppm"})


def read_image(
    path: Path,
    *,
    max_pixels: int = MAX_PIXELS,
    notice: Callable[[str], None] | None = None,
) -> NDArray[np.uint8]:
    """Read one image.

    It is converted to RGB as the training images were (mlguard/images.py). Animations
    are refused: they have more than one image.

    Args:
        path: The file.
        max_pixels: Refuse larger images, before they are decoded.
        notice: Called with one line for each conversion that loses something.

    Shape:
        returns  (1, 3, H, W) uint8, RGB

    Raises:
        ImageError: The file is missing, damaged, or of an unknown kind.
    """
    return decode_image(
        _read(path), name=str(path), max_pixels=max_pixels, notice=notice
    )


def decode_image(
    content: bytes,
    *,
    name: str,
    max_pixels: int = MAX_PIXELS,
    notice: Callable[[str], None] | None = None,
) -> NDArray[np.uint8]:
    """Read one image from memory, as `read_image` does from a file.

    Args:
        content: An image file.
        name: The name of the image in a refusal.
        max_pixels: Refuse larger images, before they are decoded.
        notice: Called with one line for each conversion that loses something.

    Raises:
        ImageError: It is damaged, or of an unknown kind.
    """

    def tell(words: str) -> None:
        if notice is not None:
            notice(f"{name}: {words}")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and of size
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _check(image, name, max_pixels)
                rgb = decode_rgb(image, tell)
    except Image.DecompressionBombError as error:
        raise _huge(name, str(error).partition(",")[0]) from None
    except UnknownMode as mode:
        raise ImageError(
            f"{name} has pixels of mode {mode}, expected 8-bit grey or colour",
            hint="convert it to 8-bit RGB; only you know how its values scale",
        ) from None
    except DAMAGED:
        raise _unreadable(name, content) from None
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None])


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None


def _check(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise _huge(name, f"{width}×{height} pixels, expected at most {max_pixels}")
    # Pillow calls a JPEG with a preview behind it, as phones write them, MPO.
    # Not counted: `n_frames` walks a whole file, 300,000 directories of a TIFF too.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ImageError(
            f"{name} has more than one frame, expected one image",
            hint="save the frame that you mean as a separate image",
        )


def _huge(name: str, found: str) -> ImageError:
    return ImageError(f"{name}: {found}", hint="scale it down, or cut it into tiles")


def _unreadable(name: object, content: bytes) -> ImageError:
    """Return the refusal of a file that is damaged or of another kind."""
    known = ", ".join(FORMATS)
    kind = kind_of(content)
    if kind and kind not in {f"a {each} image" for each in (*FORMATS, "WebP")}:
        return ImageError(
            f"{name} cannot be read as an image: it is {kind}",
            hint=f"save it as one of {known}"
            if "image" in kind
            else "put the image itself in its place",
        )
    return ImageError(
        f"{name} cannot be read as an image",
        hint=f"it may be damaged; open it in another program, or use one of {known}",
    )
