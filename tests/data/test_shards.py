"""The `shards` layout: read in place, and the words for everything refused."""

import gzip
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader

from mlguard.data import TrainingSet, open_split
from mlguard.errors import DatasetError
from mlguard.protect.training.batches import training_loader
from mlguard.recipe import Data, read_recipe
from tests.shards import pair, png, write_shard, write_splits

SPEC = Data(kind="shards", class_names=("dark", "light"), size=(16, 16))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_splits(tmp_path / "data")
    return tmp_path / "data"


def refusal(root: Path, split="train") -> str:
    with pytest.raises(DatasetError) as caught:
        open_split(SPEC, root, split, seed=0).check()
    return str(caught.value)


def test_images_of_all_archives_are_read_in_their_order(root: Path) -> None:
    opened = open_split(SPEC, root, "train", seed=0)
    assert opened.ids == tuple(f"{number:04}" for number in range(12))
    opened.check()
    image, mask = opened[8]
    assert torch.equal(image[0] > 127, mask == 1)
    assert mask.unique().tolist() == [0, 1]


def test_a_split_may_be_one_archive(root: Path) -> None:
    assert len(open_split(SPEC, root, "test", seed=0)) == 4


def test_two_processes_share_the_images(root: Path) -> None:
    """Each sees its half of every batch, and both together all images once."""
    spec = read_recipe("demo", overrides=["train.batch=4", "train.epochs=1"]).train
    data = TrainingSet(open_split(SPEC, root, "train", seed=0), SPEC, seed=0)

    def share(rank: int | None) -> list[torch.Tensor]:
        loader = training_loader(data, spec, seed=1, first_step=0, workers=0)
        if rank is not None:
            loader = prepare_data_loader(
                loader, num_processes=2, process_index=rank, split_batches=True
            )
        return [images for images, _ in loader]

    halves = [torch.cat(pieces) for pieces in zip(share(0), share(1), strict=True)]
    assert len(halves) == 3
    for both, whole in zip(halves, share(None), strict=True):
        assert torch.equal(both, whole)


class Trap:
    """What would be noticed if it were ever unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle in an archive was run",))


def test_nothing_but_images_and_masks_is_decoded(root: Path) -> None:
    trap = pickle.dumps(Trap())
    others = {"0040.pyd": trap, "0040.pickle": trap, "0040.json": b"{}"}
    write_shard(root / "train-000002.tar", pair(40) | others)
    opened = open_split(SPEC, root, "train", seed=0)
    opened.check()
    assert len(opened) == 13
    assert opened.notes == (
        "3 members of the archives are neither an image nor a mask and were not read, "
        "first train-000002.tar/'0040.pyd'",
    )


def test_a_link_out_of_the_archive_is_not_followed(root: Path) -> None:
    with tarfile.open(root / "val-000000.tar", "a") as archive:
        link = tarfile.TarInfo("0050.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert len(open_split(SPEC, root, "validation", seed=0)) == 4


def test_an_image_without_its_mask_is_refused(root: Path) -> None:
    members = pair(50)
    write_shard(root / "train-000002.tar", {"0050.png": members["0050.png"]})
    assert refusal(root).endswith(
        "train-000002.tar/0050.png has no mask in its archive"
    )


def test_a_mask_without_its_image_is_refused(root: Path) -> None:
    mask = pair(50)["0050.mask.png"]
    write_shard(root / "train-000002.tar", {"0050.seg.png": mask})
    assert "0050.seg.png has no image in its archive" in refusal(root)


def test_an_id_that_is_there_twice_is_refused(root: Path) -> None:
    write_shard(root / "train-000002.tar", pair(3))
    assert "train-000002.tar/0003.png is already in" in refusal(root)


def test_images_of_the_training_archives_are_not_tested_on(root: Path) -> None:
    write_shard(root / "test.tar", pair(3))
    assert "1 images of the list train are also in the list test" in refusal(root)


def test_a_compressed_archive_is_refused(root: Path) -> None:
    content = (root / "test.tar").read_bytes()
    (root / "test.tar").unlink()
    (root / "test.tar.gz").write_bytes(gzip.compress(content))
    assert "is compressed, so no image can be read alone" in refusal(root, "test")


def test_what_is_no_archive_is_refused(root: Path) -> None:
    (root / "test.tar").write_bytes(b"<!DOCTYPE html><title>404</title>" * 20)
    assert "test.tar is not a tar archive but a web page" in refusal(root, "test")


def test_an_archive_that_ends_too_early_is_refused(root: Path) -> None:
    path = root / "test.tar"
    path.write_bytes(path.read_bytes()[:900])
    assert "test.tar ends within '0030.png'" in refusal(root, "test")


def test_a_mask_of_another_size_is_refused(root: Path) -> None:
    mask = png(np.zeros((8, 8), np.uint8))
    write_shard(root / "test.tar", pair(30) | {"0030.mask.png": mask})
    assert "test.tar/0030.mask.png is 8 x 8" in refusal(root, "test")


def test_missing_archives_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"there is no archive train-*.tar in {tmp_path}"
