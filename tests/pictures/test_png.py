"""PNGs of images and masks hold exactly the values they were made from."""

import io

import numpy as np
from PIL import Image

from mlguard.pictures import colorize, image_png, mask_png, overlay_png

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 4, 6), dtype=np.uint8)
MASK = np.array([[0, 1], [20, 255]], dtype=np.uint8)


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_image_holds_its_values() -> None:
    np.testing.assert_array_equal(decoded(image_png(IMAGE)), IMAGE.transpose(1, 2, 0))


def test_mask_is_an_index_picture_of_its_classes_in_their_colours() -> None:
    picture = Image.open(io.BytesIO(mask_png(MASK)))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), MASK)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colorize(MASK))


def test_overlay_is_half_image_and_half_colours() -> None:
    image = np.full((3, 2, 2), 100, dtype=np.uint8)
    overlaid = decoded(overlay_png(image, MASK)).astype(int)
    assert abs(overlaid - (100 + colorize(MASK).astype(int)) / 2).max() <= 1
