"""The `folder` layout: what is read from it, and the words for everything refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlguard.data import open_split
from mlguard.errors import DatasetError
from tests.endless import ENDLESS, endless


def test_ids_keep_the_order_of_the_list(folder: Path, spec) -> None:
    (folder / "train.txt").write_text("t3\nt0\n\n  t5  \n")
    opened = open_split(spec(), folder, "train", seed=0)
    assert opened.ids == ("t3", "t0", "t5")


def test_a_pair_comes_at_the_recipes_size_as_bytes(folder: Path, spec) -> None:
    image, mask = open_split(spec(size=(8, 10)), folder, "train", seed=0)[1]
    assert (image.shape, image.dtype) == ((3, 8, 10), torch.uint8)
    assert (mask.shape, mask.dtype) == ((8, 10), torch.uint8)


def test_masks_hold_the_numbers_of_the_palette_not_its_colours(folder, spec) -> None:
    _, mask = open_split(spec(size=(12, 16)), folder, "train", seed=0)[2]
    assert mask[0, 0] == 255
    assert (mask[1:, :8] == 2).all()
    assert (mask[:, 8:] == 0).all()


def test_image_and_mask_stay_aligned_when_resized(folder: Path, spec) -> None:
    numbers = np.zeros((40, 40), dtype=np.uint8)
    numbers[:, 20:] = 1
    Image.fromarray(numbers).save(folder / "masks" / "t0.png")
    Image.fromarray(numbers * 255).save(folder / "images" / "t0.png")
    (folder / "images" / "t0.jpg").unlink()
    image, mask = open_split(spec(), folder, "train", seed=0)[0]
    assert torch.equal(image[0] > 127, mask == 1)


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG"])
def test_other_usual_suffixes_are_found(folder: Path, spec, suffix: str) -> None:
    old = folder / "images" / "t0.jpg"
    Image.open(old).save(folder / "images" / f"t0{suffix}")
    if not old.samefile(folder / "images" / f"t0{suffix}"):
        old.unlink()
    open_split(spec(), folder, "train", seed=0).check()


def test_a_list_written_on_windows_is_read(folder: Path, spec) -> None:
    (folder / "test.txt").write_bytes(b"\xef\xbb\xbfe0\r\ne1\r\n")
    assert open_split(spec(), folder, "test", seed=0).ids == ("e0", "e1")


def refusal(folder: Path | None, spec, split: str = "train") -> str:
    with pytest.raises(DatasetError) as caught:
        open_split(spec, folder, split, seed=0).check()
    assert caught.value.hint, "every refusal says what to do"
    return str(caught.value)


def test_no_folder_given_is_refused(spec) -> None:
    assert "kind folder needs a folder, but none was given" in refusal(None, spec())


def test_a_missing_folder_is_named(tmp_path: Path, spec) -> None:
    missing = tmp_path / "photos"
    assert refusal(missing, spec()) == f"there is no folder {missing}"


def test_an_empty_folder_is_refused_with_the_list_that_is_missing(tmp_path, spec):
    assert refusal(tmp_path, spec()) == f"there is no list {tmp_path / 'train.txt'}"


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_missing_part_is_named(folder: Path, spec, part: str) -> None:
    (folder / part).rename(folder / "elsewhere")
    assert f"cannot read the folder {folder / part}" in refusal(folder, spec())


def test_an_empty_list_is_refused(folder: Path, spec) -> None:
    (folder / "train.txt").write_text("\n \n")
    assert refusal(folder, spec()) == f"{folder / 'train.txt'} is empty"


def test_a_list_that_is_not_text_is_refused(folder: Path, spec) -> None:
    (folder / "train.txt").write_bytes(b"\xff\xd8\xff\xe0")
    assert "train.txt is not UTF-8 text" in refusal(folder, spec())


@pytest.mark.parametrize("line", ["../t0", "sub/t0", "a\\b", "C:t0", ".."])
def test_an_id_that_is_a_path_is_refused_by_its_line(folder, spec, line: str) -> None:
    (folder / "train.txt").write_text(f"t0\n{line}\n")
    assert "train.txt, line 2" in refusal(folder, spec())


def test_a_repeated_id_is_refused_by_both_lines(folder: Path, spec) -> None:
    (folder / "train.txt").write_text("t0\nt1\nt0\n")
    assert "train.txt, line 3: t0 is already in line 1" in refusal(folder, spec())


def test_a_split_that_leads_out_of_the_folder_is_refused(folder: Path, spec) -> None:
    assert "split '../train' is not a plain name" in refusal(
        folder, spec(train="../train")
    )


def test_an_id_without_image_is_refused(folder: Path, spec) -> None:
    (folder / "images" / "t4.jpg").unlink()
    assert f"no image for id t4 in {folder / 'images'}" in refusal(folder, spec())


def test_an_id_with_a_suffix_gets_told_that_ids_have_none(folder, spec) -> None:
    (folder / "train.txt").write_text("t0.jpg\n")
    with pytest.raises(DatasetError, match=r"no image for id t0\.jpg") as caught:
        open_split(spec(), folder, "train", seed=0)
    assert "ids have no suffix: write t0 in" in caught.value.hint


def test_an_id_without_mask_is_refused(folder: Path, spec) -> None:
    (folder / "masks" / "t4.png").unlink()
    assert f"no mask for id t4 in {folder / 'masks'}" in refusal(folder, spec())


def test_an_id_with_two_images_is_refused(folder: Path, spec) -> None:
    Image.new("RGB", (16, 12)).save(folder / "images" / "t4.png")
    assert "two images for id t4" in refusal(folder, spec())


@pytest.mark.parametrize("kept", [0, 3, 200, 400])
def test_a_truncated_jpeg_is_named(folder: Path, spec, kept: int) -> None:
    path = folder / "images" / "t1.jpg"
    path.write_bytes(path.read_bytes()[:kept])
    assert f"image {path}" in refusal(folder, spec())


def test_a_file_that_is_no_image_is_named(folder: Path, spec) -> None:
    path = folder / "images" / "t1.jpg"
    path.write_text("not found")
    assert f"image {path} is not a JPEG or PNG" in refusal(folder, spec())


def test_a_truncated_mask_is_named(folder: Path, spec) -> None:
    path = folder / "masks" / "t1.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert f"mask {path} is damaged" in refusal(folder, spec())


def test_an_image_file_that_vanishes_after_opening_is_named(folder, spec) -> None:
    opened = open_split(spec(), folder, "train", seed=0)
    (folder / "images" / "t0.jpg").unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*t0\.jpg: No such file"):
        opened[0]


def test_a_mask_of_another_size_is_refused_with_both_sizes(folder, spec) -> None:
    Image.new("L", (12, 16)).save(folder / "masks" / "t1.png")
    said = refusal(folder, spec())
    assert "t1.png is 16 x 12, but its image" in said
    assert "t1.jpg is 12 x 16" in said


def test_a_value_outside_the_classes_is_named(folder: Path, spec) -> None:
    mask = np.zeros((12, 16), dtype=np.uint8)
    mask[:2] = 3
    Image.fromarray(mask).save(folder / "masks" / "t1.png")
    assert "t1.png has the value 3 in 32 pixels; the classes are 0 … 2" in refusal(
        folder, spec()
    )


def test_another_ignored_value_makes_255_a_stray(folder: Path, spec) -> None:
    assert "has the value 255 in 1 pixels" in refusal(folder, spec(ignore_index=3))


def test_an_image_above_the_pixel_limit_is_refused(folder, spec, monkeypatch) -> None:
    monkeypatch.setattr("mlguard.data.files.MAX_PIXELS", 100)
    assert "t0.jpg has more than 100 pixels" in refusal(folder, spec())


def test_every_damaged_image_is_counted_in_one_refusal(folder: Path, spec) -> None:
    for name in ("t1", "t2", "t5"):
        (folder / "images" / f"{name}.jpg").write_bytes(b"")
    said = refusal(folder, spec())
    assert "t1.jpg is not a JPEG or PNG" in said
    assert said.endswith("2 more of 6 images are refused: t2, t5")


@pytest.mark.parametrize(("split", "other"), [("train", "test"), ("test", "train")])
def test_an_image_in_the_training_and_the_test_list_is_refused(
    folder: Path, spec, split: str, other: str
) -> None:
    with (folder / "test.txt").open("a") as file:
        file.write("t5\n")
    expected = f"1 images of the list {split} are also in the list {other}, first t5"
    assert refusal(folder, spec(), split) == expected


def test_an_image_in_the_training_and_the_validation_list_is_refused(folder, spec):
    with (folder / "train.txt").open("a") as file:
        file.write("v0\n")
    assert "also in the list val, first v0" in refusal(folder, spec())


def test_testing_on_the_training_list_is_refused(folder: Path, spec) -> None:
    assert "6 images of the list train are also" in refusal(folder, spec(test="train"))


def test_validation_and_test_may_be_one_list(folder: Path, spec) -> None:
    open_split(spec(test="val"), folder, "test", seed=0).check()


def test_testing_needs_no_training_list(folder: Path, spec) -> None:
    (folder / "train.txt").unlink()
    open_split(spec(), folder, "test", seed=0).check()


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("name", ["train.txt", "images/t1.jpg", "masks/t1.png"])
def test_a_file_without_an_end_is_refused(folder, spec, name: str, kind: str) -> None:
    path = endless(folder / name, kind)
    assert f"cannot read {path}: not a regular file" in refusal(folder, spec())


def test_a_list_above_the_limit_is_refused(folder, spec, monkeypatch) -> None:
    monkeypatch.setattr("mlguard.data.folder.MAX_LIST_BYTES", 5)
    assert "train.txt: larger than 5 bytes" in refusal(folder, spec())


def test_an_image_file_above_the_limit_is_refused(folder, spec, monkeypatch) -> None:
    monkeypatch.setattr("mlguard.data.files.MAX_FILE_BYTES", 5)
    assert "t0.jpg: larger than 5 bytes" in refusal(folder, spec())
