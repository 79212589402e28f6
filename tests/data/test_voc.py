"""The `voc` layout, and the one message that a missing VOC 2012 needs."""

from pathlib import Path
from urllib.error import URLError

import pytest
from torchvision.datasets import VOCSegmentation

from mlguard.data import open_split
from mlguard.errors import DatasetError


@pytest.fixture
def voc_spec(spec):
    return lambda **changes: spec(kind="voc", test="val", **changes)


def test_the_layout_of_torchvision_is_read(voc: Path, voc_spec) -> None:
    opened = open_split(voc_spec(), voc, "test", seed=0)
    opened.check()
    assert opened.ids == ("2008_000000", "2008_000001", "2008_000002")


def test_masks_are_those_torchvision_gives(voc: Path, voc_spec) -> None:
    expected = VOCSegmentation(str(voc), image_set="train")[1][1]
    _, mask = open_split(voc_spec(size=(12, 16)), voc, "train", seed=0)[1]
    assert mask.numpy().tobytes() == expected.tobytes()


def test_a_missing_voc_is_refused_with_the_whole_layout(tmp_path, voc_spec) -> None:
    with pytest.raises(DatasetError) as caught:
        open_split(voc_spec(), tmp_path, "train", seed=0)
    said = str(caught.value)
    assert f"no VOC 2012 in {tmp_path}" in said
    for part in ("JPEGImages/<id>.jpg", "SegmentationClass/<id>.png"):
        assert part in said
    assert "DIR/VOCdevkit/VOC2012/" in said
    assert "ImageSets/Segmentation/<split>.txt" in said
    assert "VOCtrainval_11-May-2012.tar" in caught.value.hint
    assert "--download" in caught.value.hint


@pytest.mark.parametrize("inside", ["VOCdevkit", "VOCdevkit/VOC2012"])
def test_a_path_too_deep_is_answered_with_the_right_one(voc, voc_spec, inside) -> None:
    with pytest.raises(DatasetError) as caught:
        open_split(voc_spec(), voc / inside, "train", seed=0)
    assert f"give {voc} instead" in caught.value.hint


def test_a_half_unpacked_voc_is_refused_by_the_part(voc: Path, voc_spec) -> None:
    (voc / "VOCdevkit/VOC2012/SegmentationClass").rename(voc / "elsewhere")
    with pytest.raises(DatasetError, match="VOC2012/SegmentationClass is missing"):
        open_split(voc_spec(), voc, "train", seed=0)


def test_a_missing_image_is_named(voc: Path, voc_spec) -> None:
    (voc / "VOCdevkit/VOC2012/JPEGImages/2007_000003.jpg").unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*2007_000003\.jpg: No such"):
        open_split(voc_spec(), voc, "train", seed=0).check()


def test_a_list_that_voc_does_not_have_is_refused(voc: Path, voc_spec) -> None:
    with pytest.raises(DatasetError, match="no split 'train_aug', only train, train"):
        open_split(voc_spec(train="train_aug"), voc, "train", seed=0)


def test_download_is_left_to_torchvision(tmp_path, voc_spec, monkeypatch, voc) -> None:
    asked = []

    def fetch(url: str, root: str, **options: object) -> None:
        asked.append((url, options["md5"]))
        (voc / "VOCdevkit").rename(Path(root) / "VOCdevkit")

    monkeypatch.setattr("torchvision.datasets.voc.download_and_extract_archive", fetch)
    target = tmp_path / "fetched"
    opened = open_split(voc_spec(), target, "train", seed=0, download=True)
    assert len(opened) == 5
    ((url, md5),) = asked
    assert url.endswith("/VOCtrainval_11-May-2012.tar")
    assert md5


def test_what_is_there_is_not_downloaded_again(voc, voc_spec, monkeypatch) -> None:
    monkeypatch.delattr("torchvision.datasets.voc.download_and_extract_archive")
    assert len(open_split(voc_spec(), voc, "train", seed=0, download=True)) == 5


def test_a_failed_download_is_refused_with_another_way(
    tmp_path, voc_spec, monkeypatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.voc.download_and_extract_archive", fail)
    with pytest.raises(DatasetError, match="no route to host") as caught:
        open_split(voc_spec(), tmp_path, "train", seed=0, download=True)
    assert "by other means" in caught.value.hint


def test_1464_training_images_give_1318_and_146(voc: Path, voc_spec) -> None:
    """The split of arXiv:2107.09362, section 3.1, on a list of VOC 2012's length."""
    names = [f"2007_{number:06}" for number in range(1464)]
    lists = voc / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "train.txt").write_text("\n".join(names))
    train, held_out = (
        open_split(voc_spec(validation=146), voc, split, seed=3).ids
        for split in ("train", "validation")
    )
    assert (len(train), len(held_out)) == (1318, 146)
    assert sorted(train + held_out) == names
