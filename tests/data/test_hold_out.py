"""Images held out of the training list for validation."""

import hashlib
from pathlib import Path

import pytest

from mlguard.data import open_split
from mlguard.errors import DatasetError


def test_the_images_held_out_follow_the_documented_rule(folder: Path, spec) -> None:
    def digest(name: str) -> str:
        return hashlib.sha256(f"mlguard/hold-out/v1/7/{name}".encode()).hexdigest()

    by_digest = sorted((f"t{number}" for number in range(6)), key=digest)
    opened = open_split(spec(validation=2), folder, "validation", seed=7)
    assert sorted(opened.ids) == sorted(by_digest[:2])


def test_the_seed_chooses_and_the_lists_order_does_not(folder: Path, spec) -> None:
    def held_out(seed: int) -> set[str]:
        return set(open_split(spec(validation=3), folder, "validation", seed=seed).ids)

    before = [held_out(seed) for seed in range(8)]
    lines = (folder / "train.txt").read_text().split()
    (folder / "train.txt").write_text("\n".join(reversed(lines)))
    assert [held_out(seed) for seed in range(8)] == before
    assert any(chosen != before[0] for chosen in before)


def test_holding_out_everything_is_refused(folder: Path, spec) -> None:
    with pytest.raises(DatasetError, match="cannot hold 6 images out of a training"):
        open_split(spec(validation=6), folder, "train", seed=0)


def test_the_test_split_is_left_whole(folder: Path, spec) -> None:
    assert len(open_split(spec(validation=2), folder, "test", seed=0)) == 2


def test_images_can_be_held_out_of_shapes(shapes_spec) -> None:
    spec = shapes_spec(validation=4)
    train = open_split(spec, None, "train", seed=1).ids
    held_out = open_split(spec, None, "validation", seed=1).ids
    assert (len(train), len(held_out)) == (8, 4)
    assert not set(train) & set(held_out)
