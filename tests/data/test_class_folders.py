"""The `imagefolder` and `imagenet` layouts: what is read, and what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from mlguard.data import TrainingSet, name_classes, open_split
from mlguard.errors import DatasetError
from mlguard.recipe import Data
from mlguard.tasks import Classification
from tests.images import CLASSES, class_image, write_class_folders


def spec(**changes: object) -> Data:
    fields = {
        "kind": "imagefolder",
        "size": (8, 8),
        "validation": 6,
        "class_names": CLASSES,
    }
    return Data.model_validate(fields | changes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_class_folders(tmp_path / "data")


def test_the_class_of_an_image_is_its_folder(root: Path) -> None:
    images = open_split(spec(), root, "test", seed=0)
    assert images.ids[::4] == ("blue/0.png", "green/0.png", "red/0.png")
    assert [int(images[index][1]) for index in (0, 4, 8)] == [0, 1, 2]
    image, label = images[8]
    assert (image.shape, label.shape) == ((3, 8, 8), ())
    assert image.float().mean((1, 2)).argmax() == 0  # bright in red
    assert images.task == Classification(3)


@pytest.mark.parametrize("cache", [True, False])
def test_a_cached_image_is_the_one_read(root: Path, cache: bool) -> None:
    images = open_split(spec(cache=cache), root, "test", seed=0)
    before = [images[index] for index in (0, 11)]
    images.check()
    for index, (image, label) in zip((0, 11), before, strict=True):
        assert (images[index][0] == image).all()
        assert images[index][1] == label


def test_classes_are_taken_from_the_training_folders(root: Path) -> None:
    assert name_classes(spec(class_names=()), root).class_names == CLASSES
    images = open_split(spec(class_names=()), root, "validation", seed=0)
    assert images.task.classes == 3


def test_the_order_of_the_recipe_s_names_is_that_of_the_classes(root: Path) -> None:
    names = ("red", "blue", "green")
    images = open_split(spec(class_names=names), root, "test", seed=0)
    assert images.ids[0] == "red/0.png"
    assert int(images[0][1]) == 0


def test_training_and_held_out_images_share_none(root: Path) -> None:
    parts = [open_split(spec(), root, s, seed=3).ids for s in ("train", "validation")]
    assert (len(parts[0]), len(parts[1])) == (18, 6)
    assert set(parts[0]).isdisjoint(parts[1])


def test_equal_names_in_two_splits_are_two_images(root: Path) -> None:
    """Every class folder of both splits has a 0.png here."""
    assert "blue/0.png" in open_split(spec(validation=1), root, "train", seed=0).ids
    assert "blue/0.png" in open_split(spec(), root, "test", seed=0).ids


def test_scores_on_the_training_folder_are_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match="24 images of the list train are also"):
        open_split(spec(test="train"), root, "test", seed=0)


def test_the_fingerprint_knows_images_and_classes(root: Path) -> None:
    first = open_split(spec(), root, "test", seed=0).fingerprint
    assert open_split(spec(), root, "test", seed=0).fingerprint == first
    named = spec(class_names=("red", "green", "blue"))
    assert open_split(named, root, "test", seed=0).fingerprint != first
    class_image(0, seed=77).save(root / "test/blue/0.png")
    assert open_split(spec(), root, "test", seed=0).fingerprint != first


def test_a_class_without_test_images_is_left_out_of_the_test(root: Path) -> None:
    for path in (root / "test/green").iterdir():
        path.unlink()
    (root / "test/green").rmdir()
    images = open_split(spec(), root, "test", seed=0)
    assert {int(images[index][1]) for index in range(len(images))} == {0, 2}


def empty_class(root: Path) -> None:
    for path in (root / "train/green").iterdir():
        path.unlink()


def stray_class(root: Path) -> None:
    (root / "test/yellow").mkdir()


def loose_image(root: Path) -> None:
    class_image(0, seed=0).save(root / "test/0.PNG")


def no_split(root: Path) -> None:
    (root / "test").rename(root / "elsewhere")


def one_class(root: Path) -> None:
    (root / "train").rename(root / "old")
    (root / "train/blue").mkdir(parents=True)


def no_image(root: Path) -> None:
    for name in CLASSES:
        for path in (root / "test" / name).iterdir():
            path.rename(path.with_suffix(".gif"))


def damaged(root: Path) -> None:
    path = root / "test/red/2.png"
    path.write_bytes(path.read_bytes()[:-40])


def no_picture(root: Path) -> None:
    (root / "test/red/2.png").write_text("no picture")


@pytest.mark.parametrize(
    ("edit", "split", "words"),
    [
        (empty_class, "train", "there is no image of the class green in .*train/green"),
        (stray_class, "test", "test/yellow is not one of the 3 classes of the recipe"),
        (loose_image, "test", "images outside class folders, first 0.PNG"),
        (no_split, "test", "cannot read the folder .*test: No such file"),
        (no_image, "test", "there is no image in the class folders of .*test"),
        (damaged, "test", "image .*red/2.png is damaged"),
        (no_picture, "test", "image .*red/2.png is not a JPEG or PNG"),
    ],
)
def test_unfit_folders_are_refused(root: Path, edit, split: str, words: str) -> None:
    edit(root)
    with pytest.raises(DatasetError, match=words) as refusal:
        open_split(spec(), root, split, seed=0).check()
    assert refusal.value.hint


def test_a_single_class_is_refused(root: Path) -> None:
    one_class(root)
    with pytest.raises(DatasetError, match="1 class folder, expected two or more"):
        name_classes(spec(class_names=()), root)


def test_more_names_than_a_bundle_holds_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlguard.data.class_folders.MAX_NAMES_LENGTH", 5)
    with pytest.raises(DatasetError, match="with 5 letters in all fit into a recipe"):
        name_classes(spec(class_names=()), root)


def test_a_split_cannot_lead_out_of_its_folder(root: Path) -> None:
    with pytest.raises(DatasetError, match="is not a plain name"):
        open_split(spec(test="../data/test"), root, "test", seed=0)


@pytest.mark.parametrize("names", [(), CLASSES])
def test_no_folder_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(DatasetError, match="of kind imagefolder needs a folder"):
        open_split(spec(class_names=names), None, "train", seed=0)


def test_hidden_files_are_no_classes(root: Path) -> None:
    (root / "train/.git").mkdir()
    (root / "train/.DS_Store").write_text("")
    assert name_classes(spec(class_names=()), root).class_names == CLASSES


def imagenet(**changes: object) -> Data:
    return spec(kind="imagenet", class_names=(), **changes)


def test_imagenet_s_classes_are_their_numbers(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path, classes=("n01440764", "n01443537"))
    named = name_classes(imagenet(), root)
    assert named.class_names == ("n01440764", "n01443537")
    images = open_split(named, root, "test", seed=0)
    assert images.ids[0] == "n01440764/0.png"


def test_the_thousand_classes_of_imagenet_get_their_words(tmp_path: Path) -> None:
    """And are found again by their number; more than 255 classes work."""
    for index in range(1000):
        folder = tmp_path / f"train/n{index:08}"
        folder.mkdir(parents=True)
        if index in (0, 999):
            class_image(0, seed=index).save(folder / "a.JPEG", format="JPEG")
    named = name_classes(imagenet(validation=1, train="train"), tmp_path)
    assert named.class_names[0] == "n00000000 tench"
    assert named.class_names[999].startswith("n00000999 ")
    scored = named.model_copy(update={"train": "other", "test": "train"})
    images = open_split(scored, tmp_path, "test", seed=0)
    images.check()
    assert int(images[1][1]) == 999


def test_another_folder_than_imagenet_s_is_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match="is not named like n01440764"):
        name_classes(imagenet(), root)


def training_set(root: Path, **changes: object) -> TrainingSet:
    settings = spec(**changes)
    return TrainingSet(open_split(settings, root, "train", seed=0), settings, seed=0)


def test_a_crop_of_an_image_keeps_its_class(root: Path) -> None:
    crops = training_set(root)
    for position in (0, 9, 17, 17 + len(crops)):
        image, label = crops[position]
        assert image.shape == (3, 8, 8)
        assert label == crops.base[position % len(crops)][1]


def test_a_padded_crop_is_a_shifted_image_on_black(root: Path) -> None:
    crops = training_set(root, pad=2, flip=0.0)
    whole = np.zeros((3, 12, 12), dtype=np.uint8)
    whole[:, 2:10, 2:10] = crops.base[0][0].numpy()
    windows = {
        whole[:, y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)
    }
    seen = {crops[len(crops) * epoch][0].numpy().tobytes() for epoch in range(60)}
    assert seen <= windows
    assert len(seen) > 15


def test_flipping_mirrors_the_image_alone(root: Path) -> None:
    kept, mirrored = (training_set(root, pad=1, flip=flip) for flip in (0.0, 1.0))
    assert (mirrored[3][0] == kept[3][0].flip(-1)).all()
    assert mirrored[3][1] == kept[3][1]


def test_the_same_seed_gives_the_same_crops(root: Path) -> None:
    one, other = (training_set(root, pad=2) for _ in range(2))
    digests = [
        hashlib.sha256(b"".join(one_[p][0].numpy().tobytes() for p in range(18)))
        for one_ in (one, other)
    ]
    assert digests[0].hexdigest() == digests[1].hexdigest()
