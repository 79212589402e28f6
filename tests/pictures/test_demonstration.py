"""What transforms do to an image, for the eye: never a protected model's own."""

import io

import numpy as np
import pytest
from PIL import Image

from mlguard.pictures import (
    block_sizes_for,
    demonstration_subkeys,
    thumbnail,
    transform_figure,
    transformed,
)
from tests.audits import KEY, recipe

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 64, 96), dtype=np.uint8)


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_the_model_s_own_block_size_is_shown_if_it_fits() -> None:
    assert block_sizes_for(64, 64, 64, ("shf",)) == [2, 4, 8, 16, 32, 64]
    assert block_sizes_for(64, 96, 64, ("shf",)) == [2, 4, 8, 16, 32]
    assert block_sizes_for(24, 24, 4, ("shf",)) == [2, 4, 8]


@pytest.mark.parametrize("shape", [(256, 256), (1, 1), (31, 500), (720, 960)])
def test_thumbnails_hold_whole_blocks(shape: tuple[int, int]) -> None:
    small = thumbnail(np.zeros((3, *shape), dtype=np.uint8))
    assert all(side % 32 == 0 and 32 <= side <= 128 for side in small.shape[1:])


def test_the_figure_has_a_column_for_plain_and_each_block_size() -> None:
    figure = decoded(transform_figure(IMAGE, recipe(), KEY))
    height, width, _ = figure.shape
    tile = 5 * 32  # drawn larger, so that headings fit
    assert 6 * (tile + 12) < width < 7 * (tile + 12)  # plain, and M = 2 … 32
    assert height == 30 + (tile + 12) + 30  # headings, a row of pictures, and a note


def test_the_figure_never_uses_the_same_subkeys_twice() -> None:
    """So it cannot be the ones of a model protected with the key."""
    one, other = (transform_figure(IMAGE, recipe(), KEY) for _ in range(2))
    assert one != other


def test_a_transformed_picture_is_what_the_model_would_see() -> None:
    """The twin of the test above: fixed subkeys do give the same picture."""
    subkeys = KEY.for_model(bytes(16))
    one, other = (transformed(IMAGE, ("np",), [4], subkeys)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert ((one == IMAGE) | (one == 255 - IMAGE)).all()
    assert (one != IMAGE).any()


def test_the_demonstration_key_is_pinned() -> None:
    """It is public, so anyone can check that a report's pictures were made with it."""
    assert demonstration_subkeys().key_id == "515e7ec27d2bd9ca"
