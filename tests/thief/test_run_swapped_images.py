"""A forger swaps images between the check of a data set and their use in training."""

from pathlib import Path

import pytest

from mlguard.data import LabelledSet, open_split
from mlguard.errors import DatasetError
from tests.classification.conftest import small_recipe
from tests.images import write_class_folders


def checked(root: Path, *overrides: str) -> LabelledSet:
    """The training images, found fit and their fingerprint taken."""
    recipe = small_recipe('data.class_names=["blue", "green", "red"]', *overrides)
    opened = open_split(recipe.data, root, "train", seed=0)
    opened.check()
    return opened


def swapped(root: Path, opened: LabelledSet) -> None:
    """Put the second image of the list in place of the first."""
    first, second = (next((root / "train").glob(f"{name}*")) for name in opened.ids[:2])
    assert first.read_bytes() != second.read_bytes()
    first.write_bytes(second.read_bytes())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_class_folders(tmp_path / "data", train=12, test=11)


def test_swapped_image_is_not_trained_on(root: Path) -> None:
    opened = checked(root, "data.cache=false")
    swapped(root, opened)
    with pytest.raises(DatasetError, match="was changed after it was checked"):
        opened[0]
    assert opened[1]


def test_image_that_is_kept_in_memory_is_the_one_that_was_checked(root: Path) -> None:
    opened = checked(root, "data.cache=true")
    before = opened[0][0]
    swapped(root, opened)
    assert (opened[0][0] == before).all()
