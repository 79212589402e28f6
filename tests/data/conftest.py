"""Tiny data sets in the real layouts, so that no test needs a download."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlguard.data import SHAPES_CLASS_NAMES
from mlguard.pictures import palette
from mlguard.recipe import Data

HEIGHT, WIDTH = 12, 16
CLASSES = 3


def image_of(number: int) -> Image.Image:
    """Smooth, so that JPEG keeps it, and different for every number."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    channels = [rows * 10, columns * 10, np.full_like(rows, 10 * number)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def mask_of(number: int) -> Image.Image:
    """Class `number` modulo 3 on the left, class 0 on the right, 255 in a corner."""
    numbers = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    numbers[:, : WIDTH // 2] = number % CLASSES
    numbers[0, 0] = 255
    mask = Image.fromarray(numbers, mode="L").convert("P")
    mask.putdata(numbers.ravel().tolist())
    mask.putpalette([value for colour in palette() for value in colour])
    return mask


def write_pairs(images: Path, masks: Path, names: list[str]) -> None:
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        image_of(number).save(images / f"{name}.jpg", quality=95)
        mask_of(number).save(masks / f"{name}.png")


def write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def spec() -> Callable[..., Data]:
    """Make the [data] section of a recipe that fits the tiny data sets."""

    def make(**changes: object) -> Data:
        fields = {
            "kind": "folder",
            "class_names": ("nothing", "cat", "dog"),
            "size": (8, 8),
            **changes,
        }
        return Data.model_validate(fields)

    return make


@pytest.fixture
def shapes_spec(spec: Callable[..., Data]) -> Callable[..., Data]:
    """Make the [data] section of a recipe for a few generated images."""

    def make(**changes: object) -> Data:
        fields = {
            "kind": "shapes",
            "class_names": SHAPES_CLASS_NAMES,
            "size": (32, 32),
            "shapes_images": (12, 3, 5),
            **changes,
        }
        return spec(**fields)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six training, two validation and two test images in the `folder` layout."""
    names = {
        "train": [f"t{number}" for number in range(6)],
        "val": ["v0", "v1"],
        "test": ["e0", "e1"],
    }
    for split, listed in names.items():
        write_pairs(tmp_path / "images", tmp_path / "masks", listed)
        write_list(tmp_path / f"{split}.txt", listed)
    return tmp_path


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Five training and three validation images in the layout of VOC 2012."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    names = {
        "train": [f"2007_{number:06}" for number in range(5)],
        "val": [f"2008_{number:06}" for number in range(3)],
    }
    for split, listed in names.items():
        write_pairs(base / "JPEGImages", base / "SegmentationClass", listed)
        write_list(base / "ImageSets" / "Segmentation" / f"{split}.txt", listed)
    return tmp_path
