"""Both sides of a comparison do the same work."""

import importlib
import sys

import pytest
import torch


@pytest.fixture
def sides(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["side_by_side.py"])
    return importlib.import_module("side_by_side")


@pytest.mark.parametrize("method", ["shf", "np", "ffx"])
def test_explicit_keys_give_what_the_papers_say(sides, method) -> None:
    key, table = sides.explicit(method, 2)
    images = sides.pictures(4, 1)
    got = sides.ours(method, 2, key, table)(images)
    block = images[0, :, :2, :2].permute(1, 2, 0).reshape(-1)
    if method == "shf":
        expected = block[key] / 255
    elif method == "np":
        expected = torch.where(key, 255 - block.int(), block.int()) / 255
    else:
        expected = torch.where(key, table[block.long()], block.long()) / table.max()
    block = got[0, :, :2, :2].permute(1, 2, 0).reshape(-1)
    torch.testing.assert_close(block, expected.float())


def test_what_is_not_at_hand_is_left_out(sides) -> None:
    options = sides.parse()
    assert not sides.at_hand("block_transform", options)
    assert sides.at_hand("mlguard", options)


def test_generated_photographs_can_be_trained_and_scored_on(sides, tmp_path) -> None:
    from mlguard.data import open_split
    from mlguard.recipe import read_recipe

    overrides = ["data.kind=folder", "data.size=[32,32]", "data.validation=2"]
    spec = read_recipe("demo", overrides=overrides).data
    root = sides.photographs(tmp_path)
    sizes = [len(open_split(spec, root, s, seed=0)) for s in ("train", "validation")]
    assert sizes == [sides.IMAGES - 4, 2]
