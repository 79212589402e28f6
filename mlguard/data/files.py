"""Pairs of an image file and a mask file, decoded and checked.

A mask's numbers are its classes, so masks are read as numbers: a palette is never
turned into colours, and a grey PNG of few bits is not stretched to 0…255.
"""

import hashlib
import io
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mlguard import recipe
from mlguard.data.labelled import Pair
from mlguard.data.values import count_values
from mlguard.errors import DatasetError
from mlguard.files import read_bounded
from mlguard.images import (
    DAMAGED,
    UPRIGHT,
    UnknownMode,
    decode_rgb,
    orientation_of,
)
from mlguard.kinds import but_is, kind_of

MAX_PIXELS = 1 << 26  # 67 megapixels; checked before anything is decoded
LARGE_PIXELS = 1 << 24  # above it, one image at a time: it takes 7 bytes a pixel
MAX_FILE_BYTES = 1 << 29  # 512 MiB: that many pixels at 8 bytes, without compression
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
INDEX_HINT = "save masks as 8-bit PNG, grey or palette, whose numbers are the classes"
_TRUECOLOUR = {2, 4, 6}  # PNG colour types: RGB, grey with alpha, RGBA
_GREY = 0
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class PairPaths:
    """The paths of one image and its mask."""

    id: str
    image: Path
    mask: Path


class FilePairs:
    """A source that decodes files."""

    def __init__(self, paths: Sequence[PairPaths], spec: recipe.Data) -> None:
        self.ids = tuple(pair.id for pair in paths)
        self.ignored = ""  # only files named in a list are read
        self._paths = tuple(paths)
        self._spec = spec

    def read(self, index: int) -> Pair:
        """Decode one pair.

        Raises:
            DatasetError: A file is missing or damaged, or the two do not match.
        """
        paths = self._paths[index]
        image, mask = read_file(paths.image), read_file(paths.mask)
        return decode_pair(image, mask, paths, self._spec)


def decode_pair(
    image_bytes: bytes, mask_bytes: bytes, paths: PairPaths, spec: recipe.Data
) -> Pair:
    """Decode an image and its mask.

    Args:
        image_bytes: The image's file.
        mask_bytes: The mask's.
        paths: What messages call them.
        spec: The recipe's [data].

    Raises:
        DatasetError: One is damaged, or the two do not match.
    """
    image = decode_image(image_bytes, paths.image)
    mask = decode_mask(mask_bytes, paths.mask)
    turned = _turned_by(image_bytes, paths.image)
    if image.shape[:2] != mask.shape:
        raise _unlike(image, mask, paths, turned)
    _check_values(mask, paths.mask, spec)
    digest = hashlib.sha256(hashlib.sha256(image_bytes).digest() + mask_bytes)
    only_image = turned != UPRIGHT and _turned_by(mask_bytes, paths.mask) == UPRIGHT
    return Pair(image, mask, digest.digest(), turned=only_image)


def decode_image(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG of any kind to RGB, turned upright.

    The runtime decodes images in the same way: both use mlguard/images.py.

    Shape:
        returns  (H, W, 3) uint8
    Raises:
        DatasetError: It is not an image, truncated, or above MAX_PIXELS.
    """
    with _open(content, path, "image") as image, _turn(image):
        try:
            return decode_rgb(image)
        except UnknownMode as mode:
            raise DatasetError(
                f"image {path} has pixels of mode {mode}, expected grey or colour",
                hint="convert it to 8-bit RGB",
            ) from None
        except DAMAGED as error:
            raise _damaged(path, "image", error) from None


def decode_mask(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode an index PNG to its numbers, turned upright if its EXIF says so.

    Shape:
        returns  (H, W) uint8
    Raises:
        DatasetError: It is not a PNG, truncated, in colours, or has 16 bits.
    """
    if not content.startswith(PNG_SIGNATURE):
        raise DatasetError(
            f"mask {path} is not a PNG{but_is(content)}", hint=INDEX_HINT
        )
    bits, colour_type = (*content[24:26], 0, 0)[:2]  # of the header chunk
    if bits == 16 or colour_type in _TRUECOLOUR:
        kind = "16-bit" if bits == 16 else "colour"
        raise DatasetError(
            f"mask {path} is a {kind} PNG, expected 8-bit numbers", hint=INDEX_HINT
        )
    with _open(content, path, "mask") as image, _turn(image):
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            mask = np.asarray(image, dtype=np.uint8)
        except DAMAGED as error:
            raise _damaged(path, "mask", error) from None
    if colour_type == _GREY and bits in (2, 4):
        mask = mask // (255 // ((1 << bits) - 1))  # the decoder stretched them
    return mask


def read_file(path: Path) -> bytes:
    """Read a file of a data set, within bounds.

    Raises:
        DatasetError: It is missing, not a regular file, or too large.
    """
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except OSError as error:
        raise DatasetError(
            f"cannot read {path}: {error.strerror}",
            hint="every id of the list needs an image and a mask",
        ) from None


def _open(content: bytes, path: Path, what: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path, what) from None
    except DAMAGED:
        raise _no_image(content, path, what) from None
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, what)
    return image


def _no_image(content: bytes, path: Path, what: str) -> DatasetError:
    """Return the refusal of a file that does not begin as an image."""
    kind = kind_of(content)
    if not kind or kind.startswith(("a JPEG", "a PNG")):
        return DatasetError(
            f"{what} {path} is not a JPEG or PNG, or its start is damaged",
            hint="fetch the file again, or remove its id from the list",
        )
    hint = "save it as JPEG or PNG, or remove its id from the list"
    if "image" not in kind:
        hint = "put the image itself in its place, or remove its id from the list"
    return DatasetError(f"{what} {path} is not a JPEG or PNG but {kind}", hint=hint)


def _turn(image: Image.Image) -> AbstractContextManager[object]:
    """Let threads that decode large images wait for each other."""
    large = image.width * image.height > LARGE_PIXELS
    return _one_at_a_time if large else nullcontext()


def _too_large(path: Path, what: str) -> DatasetError:
    return DatasetError(
        f"{what} {path} has more than {MAX_PIXELS} pixels",
        hint="scale the images down before training; the recipe's size is much smaller",
    )


def _damaged(path: Path, what: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"{what} {path} is damaged: {error}",
        hint="fetch the file again, or remove its id from the list",
    )


def _check_values(mask: NDArray[np.uint8], path: Path, spec: recipe.Data) -> None:
    counts = count_values(mask)
    counts[spec.ignore_index] = 0
    strays = np.flatnonzero(counts[spec.classes :]) + spec.classes
    if strays.size:
        value = int(strays[0])
        raise DatasetError(
            f"mask {path} has the value {value} in {counts[value]} pixels; "
            f"the classes are 0 … {spec.classes - 1}, and {spec.ignore_index} is "
            "ignored",
            hint="data.class_names must name every class of the masks, and "
            "data.ignore_index the value of pixels without a label",
        )


def _turned_by(content: bytes, path: Path) -> int:
    with _open(content, path, "image") as image:
        return orientation_of(image)


def _unlike(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], paths: PairPaths, turned: int
) -> DatasetError:
    """Return the refusal of an image and a mask of different sizes."""
    said = (
        f"mask {paths.mask} is {_size(mask)}, "
        f"but its image {paths.image} is {_size(image)}"
    )
    if turned == UPRIGHT or mask.shape != image.shape[1::-1]:
        return DatasetError(
            said, hint="every mask needs the height and width of its image"
        )
    return DatasetError(
        f"{said}, turned upright by its EXIF orientation {turned}",
        hint="the mask was drawn on the pixels as they are stored: turn it too, or "
        "remove the orientation from the image",
    )


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"
