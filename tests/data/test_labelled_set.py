"""A split as a whole: its cache, its check and its fingerprint."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from mlguard.data import open_split
from mlguard.errors import DatasetError


def test_check_tells_its_progress(folder: Path, spec) -> None:
    told = []
    opened = open_split(spec(), folder, "train", seed=0)
    opened.check(lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("cache", [True, False])
def test_a_checked_set_gives_what_a_fresh_one_gives(folder, spec, cache: bool) -> None:
    fresh = open_split(spec(cache=False), folder, "train", seed=0)
    checked = open_split(spec(cache=cache), folder, "train", seed=0)
    checked.check()
    for index in range(6):
        for a, b in zip(fresh[index], checked[index], strict=True):
            assert torch.equal(a, b)


def test_a_checked_set_reads_no_file_again(folder: Path, spec) -> None:
    opened = open_split(spec(), folder, "train", seed=0)
    opened.check()
    (folder / "images" / "t0.jpg").unlink()
    assert opened[0][0].shape == (3, 8, 8)


def test_without_cache_files_are_read_again(folder: Path, spec) -> None:
    opened = open_split(spec(cache=False), folder, "train", seed=0)
    opened.check()
    (folder / "images" / "t0.jpg").unlink()
    with pytest.raises(DatasetError, match=r"t0\.jpg"):
        opened[0]


def test_editing_an_image_in_place_does_not_reach_the_cache(folder, spec) -> None:
    opened = open_split(spec(), folder, "train", seed=0)
    before = opened[0][0].clone()
    opened[0][0].zero_()
    assert torch.equal(opened[0][0], before)


def test_the_end_of_a_set_is_its_length(folder: Path, spec) -> None:
    assert len(list(open_split(spec(), folder, "train", seed=0))) == 6


def test_a_negative_index_is_a_bug(folder: Path, spec) -> None:
    with pytest.raises(IndexError, match="image -1 of 6"):
        open_split(spec(), folder, "train", seed=0)[-1]


def test_a_set_can_be_sent_to_a_worker(folder: Path, spec) -> None:
    opened = open_split(spec(), folder, "train", seed=0)
    opened.check()
    copy = pickle.loads(pickle.dumps(opened))
    assert copy.fingerprint == opened.fingerprint
    assert torch.equal(copy[3][0], opened[3][0])


def fingerprint(folder: Path, spec) -> str:
    return open_split(spec, folder, "train", seed=0).fingerprint


def test_the_fingerprint_does_not_depend_on_the_size_or_the_cache(folder, spec) -> None:
    expected = fingerprint(folder, spec())
    assert len(expected) == 64
    assert fingerprint(folder, spec(size=(4, 4), cache=False)) == expected


def test_the_fingerprint_changes_with_the_bytes_of_an_image(folder, spec) -> None:
    before = fingerprint(folder, spec())
    with (folder / "images" / "t2.jpg").open("ab") as file:
        file.write(b"\0")  # after the end: the pixels are the same
    assert fingerprint(folder, spec()) != before


def test_the_fingerprint_changes_with_a_mask(folder: Path, spec) -> None:
    before = fingerprint(folder, spec())
    masks = folder / "masks"
    (masks / "t1.png").write_bytes((masks / "t0.png").read_bytes())
    assert fingerprint(folder, spec()) != before


def test_the_fingerprint_changes_with_the_list(folder: Path, spec) -> None:
    before = fingerprint(folder, spec())
    (folder / "train.txt").write_text("t1\nt0\nt2\nt3\nt4\nt5\n")
    assert fingerprint(folder, spec()) != before


def test_an_interrupted_check_stops_early(folder: Path, spec) -> None:
    opened = open_split(spec(), folder, "train", seed=0)

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened.check(stop)


@pytest.mark.parametrize("reason", [MemoryError, ValueError])
def test_more_images_than_memory_are_refused_with_a_way_out(
    folder, spec, monkeypatch, reason: type[Exception]
):
    def full(*_: object, **__: object) -> None:
        raise reason  # ValueError: more than an address can say

    monkeypatch.setattr("mlguard.data.labelled.np.empty", full)
    with pytest.raises(
        DatasetError, match="there is not enough memory to keep 6 images"
    ) as caught:
        open_split(spec(), folder, "train", seed=0)
    assert "data.cache=false" in caught.value.hint


REAL = os.environ.get("MLGUARD_TEST_DATA")
SETS = {
    "camvid_256": {"class_names": tuple("abcdefghijk"), "ignore_index": 11},
    "voc2012_256": {"class_names": tuple("abcdefghijklmnopqrstu"), "test": "val"},
}


@pytest.mark.skipif(REAL is None, reason="MLGUARD_TEST_DATA names no folder of data")
@pytest.mark.parametrize("name", SETS)
def test_real_photographs_pass_the_check(spec, name: str) -> None:
    fields = {"size": (64, 64), "cache": False, **SETS[name]}
    for split in ("train", "validation", "test"):
        opened = open_split(spec(**fields), Path(REAL or "") / name, split, seed=0)
        opened.check()
        assert len(opened) > 100


def test_masks_without_any_class_are_refused(folder: Path, spec) -> None:
    masks = sorted((folder / "masks").glob("t*.png"))
    assert len(masks) == 6
    for path in masks:
        with Image.open(path) as mask:
            blank = mask.point(lambda _: 255)
        blank.save(path)
    with pytest.raises(DatasetError, match="no pixel of the 6 masks has a class"):
        open_split(spec(), folder, "train", seed=0).check()
