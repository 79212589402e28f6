"""What real people's folders hold: odd names, odd files, odd masks, other systems."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlguard.data import open_split
from mlguard.errors import DatasetError
from mlguard.kinds import kind_of
from tests.data.conftest import image_of, mask_of, write_list, write_pairs

BINARY = {"class_names": ("background", "thing")}
CAFE = "café"
MAC = unicodedata.normalize("NFD", CAFE)


def pair(folder: Path, name: str, values: list[int], *, flip: bool = False) -> None:
    """An image and a mask whose columns have these values."""
    mask = np.repeat(np.array(values, np.uint8)[None], 6, axis=0)
    image = Image.fromarray(np.stack([mask] * 3, axis=-1))
    for kind, picture in (("images", image), ("masks", Image.fromarray(mask))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        suffix = "jpg" if kind == "images" else "png"
        picture.save(folder / kind / f"{name}.{suffix}")


def checked(folder: Path, data, split: str = "train"):
    opened = open_split(data, folder, split, seed=0)
    opened.check()
    return opened


# Classes that no training pixel has


def test_masks_of_0_and_255_are_refused_and_what_was_meant_is_said(
    tmp_path: Path, spec
) -> None:
    pair(tmp_path, "a", [0, 0, 255])
    write_list(tmp_path / "train.txt", ["a"])
    with pytest.raises(DatasetError, match="only the class background has") as refusal:
        checked(tmp_path, spec(**BINARY))
    assert "0 in 66.7 %, 255 (ignored) in 33.3 %" in str(refusal.value)
    assert "write its number 1 into the masks instead of 255" in refusal.value.hint


def test_masks_of_0_and_1_are_taken_without_a_word(tmp_path: Path, spec) -> None:
    pair(tmp_path, "a", [0, 1, 255])
    write_list(tmp_path / "train.txt", ["a"])
    assert checked(tmp_path, spec(**BINARY)).notes == ()


def test_a_class_that_only_validation_has_is_told(tmp_path: Path, spec) -> None:
    pair(tmp_path, "a", [0, 1, 1])
    pair(tmp_path, "b", [0, 1, 2])
    write_list(tmp_path / "train.txt", ["a"])
    write_list(tmp_path / "val.txt", ["b"])
    (note,) = checked(tmp_path, spec()).notes
    assert note.startswith("no training pixel has the class dog: the 1 training masks")
    assert "1 in 66.7 %, 0 in 33.3 %" in note
    assert checked(tmp_path, spec(), "validation").notes == ()


def test_masks_that_are_all_ignored_are_counted(tmp_path: Path, spec) -> None:
    pair(tmp_path, "a", [0, 1, 2])
    pair(tmp_path, "b", [255, 255, 255])
    write_list(tmp_path / "train.txt", ["a", "b"])
    (note,) = checked(tmp_path, spec()).notes
    assert note == "1 of 2 masks are ignored in every pixel, first the mask of b"


# Names


def test_a_list_with_a_byte_order_mark_is_read(folder: Path, spec) -> None:
    text = (folder / "train.txt").read_text()
    (folder / "train.txt").write_text(text, encoding="utf-8-sig")
    assert checked(folder, spec()).ids[0] == "t0"


def test_a_list_of_voc_with_a_byte_order_mark_is_read(voc: Path, spec) -> None:
    path = voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    data = spec(kind="voc", test="val")
    assert checked(voc, data).ids[0] == "2007_000000"


@pytest.mark.parametrize("listed", [CAFE, MAC])
@pytest.mark.parametrize("stored", [CAFE, MAC])
def test_names_that_look_alike_are_one(
    tmp_path: Path, spec, listed: str, stored: str
) -> None:
    pair(tmp_path, stored, [0, 1, 2])
    write_list(tmp_path / f"{stored}.txt", [listed])
    assert checked(tmp_path, spec(train=listed)).ids == (listed,)


def test_names_that_look_alike_are_listed_once(tmp_path: Path, spec) -> None:
    write_list(tmp_path / "train.txt", [CAFE, MAC])
    with pytest.raises(DatasetError, match=r"line 2: .* is already in line 1"):
        open_split(spec(), tmp_path, "train", seed=0)


@pytest.mark.parametrize("stored", [CAFE, MAC])
def test_class_folders_that_look_alike_are_one(
    tmp_path: Path, spec, stored: str
) -> None:
    for name in ("dog", stored):
        (tmp_path / "train" / name).mkdir(parents=True)
        image_of(1).save(tmp_path / "train" / name / "a.jpg")
    data = spec(kind="imagefolder", class_names=("dog", CAFE), size=(8, 8))
    opened = checked(tmp_path, data)
    assert [int(opened[i][1]) for i in range(2)] == [0, 1]


def latin(folder: Path) -> bytes:
    """A name that is not UTF-8, where the file system takes one."""
    name = os.fsencode(folder) + b"/\xe9.jpg"
    try:
        with open(name, "wb") as file:
            image_of(2).save(file, format="JPEG")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return name


def test_an_image_whose_name_is_not_utf_8_is_read(tmp_path: Path, spec) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        image_of(1).save(tmp_path / "train" / name / "a.jpg")
    latin(tmp_path / "train" / "cat")
    data = spec(kind="imagefolder", class_names=("cat", "dog"), validation=1)
    opened = open_split(data, tmp_path, "train", seed=1)
    held = open_split(data, tmp_path, "validation", seed=1)
    opened.check()
    held.check()
    assert len(opened) + len(held) == 3
    assert opened.fingerprint != held.fingerprint


def test_a_class_folder_that_is_not_utf_8_is_refused_in_those_words(
    tmp_path: Path, spec
) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    try:
        os.mkdir(os.fsencode(tmp_path / "train") + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DatasetError, match=r"b'caf\\xe9' .* is not named in UTF-8"):
        open_split(spec(kind="imagefolder", class_names=()), tmp_path, "train", seed=0)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("t0 1", "nothing after it: write t0"),
        ("t0,1", "nothing after it: write t0"),
        ("t0\t1", "nothing after it: write t0"),
        ("t0.jpg 1", "nothing after it: write t0"),
        ("t0.jpg", "ids have no suffix: write t0"),
        ("images/t0.jpg", "without folder and suffix: write t0"),
        ("images/t0.jpg masks/t0.png", "without folder and suffix: write t0"),
        ("absent", "add the file, or remove the id"),
    ],
)
def test_a_line_that_is_no_id_is_answered_with_the_id(
    folder: Path, spec, line: str, advice: str
) -> None:
    write_list(folder / "train.txt", [line])
    with pytest.raises(DatasetError) as refusal:
        open_split(spec(), folder, "train", seed=0)
    assert advice in refusal.value.hint


@pytest.mark.parametrize(
    "line", ["2007_000000.JPG", "2007_000000.jpg", "2007_000000 1"]
)
def test_a_line_of_voc_that_is_no_id_is_answered_with_the_id(
    voc: Path, spec, line: str
) -> None:
    write_list(voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", [line])
    with pytest.raises(DatasetError) as refusal:
        open_split(spec(kind="voc", test="val"), voc, "train", seed=0)
    assert "write 2007_000000" in refusal.value.hint


def test_an_image_of_voc_with_a_suffix_in_capitals_is_read(voc: Path, spec) -> None:
    image = voc / "VOCdevkit/VOC2012/JPEGImages/2007_000001.jpg"
    image.rename(image.with_suffix(".JPG"))
    checked(voc, spec(kind="voc", test="val"))


# Files of another kind


@pytest.mark.parametrize(("kind", "suffix"), [("images", ".tif"), ("masks", ".jpg")])
def test_a_file_of_another_suffix_is_named(
    folder: Path, spec, kind: str, suffix: str
) -> None:
    (path,) = (folder / kind).glob("t0.*")
    path.rename(path.with_suffix(suffix))
    with pytest.raises(DatasetError, match=rf"for id t0 .* but there is t0\{suffix}"):
        open_split(spec(), folder, "train", seed=0)


KINDS = {
    "a WebP image": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    "a HEIC image": b"\x00\x00\x00\x18ftypheic",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:",
    "a web page": b"\n<!DOCTYPE html><html>404",
    "empty": b"",
    "a TIFF image": b"II*\x00",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_what_its_name_says_is_called_by_what_it_is(
    folder: Path, spec, kind: str
) -> None:
    (folder / "images" / "t0.jpg").write_bytes(KINDS[kind])
    with pytest.raises(DatasetError, match=rf"is not a JPEG or PNG but {kind}"):
        checked(folder, spec())
    (folder / "masks" / "t0.png").write_bytes(KINDS[kind])
    image_of(0).save(folder / "images" / "t0.jpg")
    with pytest.raises(DatasetError, match=rf"is not a PNG but {kind}"):
        checked(folder, spec())


def test_what_is_not_known_is_not_guessed() -> None:
    assert kind_of(b"\x00\x01\x02") == ""
    assert kind_of(b"<svg xmlns") == "an XML text"


# Orientation


def turned(folder: Path, orientation: int, *, mask_too: bool, stored: bool) -> None:
    """One pair whose image is turned by EXIF; the mask upright, or as stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("images", "masks"):
        (folder / kind).mkdir(exist_ok=True)
    image_of(1).save(folder / "images" / "t0.jpg", exif=exif)
    mask = mask_of(1)
    if not (mask_too or stored):
        mask = mask.transpose(Image.Transpose.ROTATE_270)
    more = {"exif": exif} if mask_too else {}
    mask.save(folder / "masks" / "t0.png", **more)
    write_list(folder / "train.txt", ["t0"])


def test_a_mask_as_stored_beside_a_turned_image_is_refused_by_the_cause(
    tmp_path: Path, spec
) -> None:
    turned(tmp_path, 6, mask_too=False, stored=True)
    with pytest.raises(DatasetError, match="by its EXIF orientation 6") as refusal:
        checked(tmp_path, spec())
    assert "as they are stored: turn it too" in refusal.value.hint


def test_a_mask_is_turned_as_it_says(tmp_path: Path, spec) -> None:
    turned(tmp_path, 6, mask_too=True, stored=True)
    opened = checked(tmp_path, spec(size=(16, 12), cache=False, **BINARY))
    assert opened.notes == ()
    expected = np.rot90(np.asarray(mask_of(1)), -1)
    np.testing.assert_array_equal(opened[0][1].numpy(), expected)


def test_an_upright_mask_beside_a_turned_image_is_taken_and_told(
    tmp_path: Path, spec
) -> None:
    turned(tmp_path, 6, mask_too=False, stored=False)
    (note,) = checked(tmp_path, spec(**BINARY)).notes
    assert "1 of 1 images are turned upright as their camera says (EXIF)" in note


# Droppings of other systems, and input that is not read


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        image_of(1).save(tmp_path / "train" / name / "a.jpg")
    return tmp_path


def test_what_other_systems_drop_is_no_class_and_no_image(classes: Path, spec) -> None:
    for name in ("@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN"):
        (classes / "train" / name).mkdir()
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db"):
        (classes / "train" / "cat" / name).write_bytes(b"\x00\x05\x16\x07")
    opened = checked(classes, spec(kind="imagefolder", class_names=()))
    assert opened.ids == ("cat/a.jpg", "dog/a.jpg")
    assert opened.notes == ()


def test_input_that_is_not_read_is_counted(classes: Path, spec) -> None:
    (classes / "train" / "cat" / "more" / "still").mkdir(parents=True)
    image_of(2).save(classes / "train" / "cat" / "more" / "still" / "b.jpg")
    (classes / "train" / "dog" / "c.webp").touch()
    (note,) = checked(classes, spec(kind="imagefolder", class_names=())).notes
    assert "1 images in subfolders, first cat/more/still/b.jpg" in note
    assert "1 files other than .jpg or .png, first dog/c.webp" in note


def test_an_empty_class_folder_is_refused_with_what_to_do(classes: Path, spec) -> None:
    (classes / "train" / "emu").mkdir()
    with pytest.raises(
        DatasetError, match="there is no image of the class emu"
    ) as refusal:
        checked(classes, spec(kind="imagefolder", class_names=()))
    assert "if the folder is not a class, move it away" in refusal.value.hint


def test_a_folder_layout_with_droppings_is_read(folder: Path, spec) -> None:
    (folder / "images" / "._t0.jpg").touch()
    (folder / "masks" / ".DS_Store").touch()
    write_pairs(folder / "images", folder / "masks", ["unlisted"])
    assert checked(folder, spec()).ids[0] == "t0"
