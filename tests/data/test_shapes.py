"""The generated data: the same pictures everywhere, and worth learning."""

import hashlib

import numpy as np
import pytest

from mlguard.data import SHAPES_CLASS_NAMES, open_split
from mlguard.data.draws import Draws
from mlguard.data.shapes import GRASS, ORANGE, SKY, TIGER, paint
from mlguard.errors import DatasetError

# SHA-256 of the image's bytes and the mask's. A change here changes everybody's
# pictures and every published number: give the generator's label a new version.
DIGESTS = {
    (64, 64): "4b975d40ffece0631c6fcf65c67c37c336079ec09e4046a3f549f83a9a53114f",
    (48, 80): "86832442c0f47fa9c7ae89ec34cd1d37ec833e734055d22acd0bed5c500a8f66",
    (256, 256): "9917876d67f295b7bcb678d0e4f4b05607a15aadd761a84bfd27b6b92639bb2e",
}


@pytest.fixture(scope="module")
def scenes() -> tuple[np.ndarray, np.ndarray]:
    """(200, 64, 64, 3) images and (200, 64, 64) masks."""
    pairs = [paint(Draws(1, number), 64, 64) for number in range(200)]
    images, masks = zip(*pairs, strict=True)
    return np.stack(images), np.stack(masks)


@pytest.mark.parametrize("size", DIGESTS, ids=str)
def test_pictures_are_pinned(size: tuple[int, int]) -> None:
    image, mask = paint(Draws(0), *size)
    found = hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()
    assert found == DIGESTS[size]


def test_the_fingerprint_of_a_split_is_pinned(shapes_spec) -> None:
    opened = open_split(shapes_spec(), None, "train", seed=0)
    assert opened.fingerprint[:16] == "32339cc14b5ae336"


def test_the_seed_of_training_does_not_change_the_pictures(shapes_spec) -> None:
    first, second = (
        open_split(shapes_spec(), None, "test", seed=seed) for seed in (0, 1)
    )
    assert first.fingerprint == second.fingerprint


def test_splits_share_no_picture(shapes_spec) -> None:
    seen = set()
    for split in ("train", "validation", "test"):
        opened = open_split(shapes_spec(), None, split, seed=0)
        seen |= {opened[index][0].numpy().tobytes() for index in range(len(opened))}
    assert len(seen) == 12 + 3 + 5


def test_more_images_keep_the_first_ones(shapes_spec) -> None:
    few = open_split(shapes_spec(), None, "train", seed=0)
    many = open_split(shapes_spec(shapes_images=(30, 3, 5)), None, "train", seed=0)
    assert few.ids == many.ids[:12]
    assert (few[11][0] == many[11][0]).all()


def test_every_class_is_worth_learning_and_background_is_not_all(scenes) -> None:
    share = np.bincount(scenes[1].ravel(), minlength=6) / scenes[1].size
    assert share[0] < 0.65
    assert share[1:].min() > 0.04


def test_classes_are_about_equally_bright(scenes) -> None:
    """Brightness survives most transforms, so it must not tell the classes apart."""
    images, masks = scenes
    means = [images[masks == label].mean() for label in range(6)]
    assert max(means) - min(means) < 16  # of 255


def test_orange_and_tiger_have_the_same_colour_on_average(scenes) -> None:
    images, masks = scenes
    orange, tiger = (images[masks == label].mean(axis=0) for label in (ORANGE, TIGER))
    assert abs(orange - tiger).max() < 16  # of 255


def test_sky_is_above_and_grass_below(scenes) -> None:
    rows = np.broadcast_to(np.arange(64)[:, None], scenes[1].shape)
    assert rows[scenes[1] == SKY].max() < 32 <= rows[scenes[1] == GRASS].min()


def test_clutter_holds_the_colours_of_sky_and_grass(scenes) -> None:
    """So that colour alone, without place, gives the wrong answer."""
    images, masks = scenes
    clutter = images[masks == 0].astype(int)
    bluish = (clutter[:, 2] - clutter[:, 0] > 60).mean()
    greenish = (clutter[:, 1] - clutter[:, 2] > 50).mean()
    assert bluish > 0.03
    assert greenish > 0.03


def test_another_number_of_classes_is_refused_with_the_names(shapes_spec) -> None:
    with pytest.raises(DatasetError, match="have 6 classes, the recipe names 2") as no:
        open_split(shapes_spec(class_names=("a", "b")), None, "train", seed=0)
    assert all(name in no.value.hint for name in SHAPES_CLASS_NAMES)


def test_a_size_too_small_for_shapes_is_refused(shapes_spec) -> None:
    with pytest.raises(DatasetError, match=r"at least 16 x 16 pixels, .* 8 x 64"):
        open_split(shapes_spec(size=(8, 64)), None, "train", seed=0)


@pytest.mark.parametrize("size", [(16, 16), (17, 61), (16, 200), (640, 16)], ids=str)
def test_odd_sizes_work(size: tuple[int, int]) -> None:
    image, mask = paint(Draws(3), *size)
    assert image.shape == (*size, 3)
    assert mask.shape == size
    assert mask.max() <= TIGER
