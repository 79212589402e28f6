"""Table 1 is measured cell by cell, and a cell that was killed goes on."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def table1() -> ModuleType:
    return importlib.import_module("table1")


@pytest.fixture
def cells() -> ModuleType:
    return importlib.import_module("table1_cell")


def run(table1: ModuleType, out: Path, monkeypatch, *options: str) -> dict:
    command = ["table1.py", "--scale", "smoke", "--out", str(out), *options]
    monkeypatch.setattr(sys, "argv", command)
    table1.main()
    return json.loads(out.read_text())


def test_cells_are_finished_one_by_one(table1, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "cells.json"
    assert len(run(table1, out, monkeypatch, "--most", "1")["cells"]) == 1
    table = run(table1, out, monkeypatch, "--most", "2")
    names = [(cell["method"], cell["block_size"]) for cell in table["cells"]]
    assert names == [(None, None), ("shf", 4), ("np", 4)]
    assert len(table["cells"][1]["incorrect"]) == 3
    assert "Not run: ffx-4." in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.json"]


def test_other_settings_are_not_mixed_in(table1, tmp_path, monkeypatch) -> None:
    out = tmp_path / "cells.json"
    run(table1, out, monkeypatch, "--most", "1")
    with pytest.raises(SystemExit, match="begun with other settings"):
        run(table1, out, monkeypatch, "--set", "train.seed=1")


def test_a_killed_cell_goes_on_to_the_same_weights(
    table1, cells, tmp_path, monkeypatch
) -> None:
    recipe = table1.read_recipe("demo", overrides=[*table1.TINY, "train.epochs=2"])
    device = torch.device("cpu")
    splits = cells.read_splits(recipe, None, device)

    def score(checkpoint: Path) -> dict:
        return cells.train_and_score(
            cells.Cell("shf", 4),
            recipe,
            splits,
            checkpoint=checkpoint,
            incorrect_keys=2,
            device=device,
        )

    whole = score(tmp_path / "whole")
    monkeypatch.setattr(cells, "CHECKPOINT_S", 0.0)
    learn, steps = cells._Trainer._learn, []

    def killed(self, epoch: int, within: int) -> None:
        steps.append(epoch)
        if len(steps) == 4:
            raise KeyboardInterrupt
        learn(self, epoch, within)

    monkeypatch.setattr(cells._Trainer, "_learn", killed)
    with pytest.raises(KeyboardInterrupt):
        score(tmp_path / "killed")
    resumed = score(tmp_path / "killed")
    assert len(steps) == 5, "the last step alone was left"
    for what in ("correct", "no_key", "incorrect"):
        assert resumed[what] == whole[what]


def test_crops_keep_image_and_mask_together(table1, cells) -> None:
    recipe = table1.read_recipe("demo", overrides=table1.TINY)
    masks = torch.zeros(8, 32, 32, dtype=torch.uint8)
    masks[:, :, 16:] = 1
    images = (255 * masks)[:, None].expand(-1, 3, -1, -1).contiguous()
    draws = torch.Generator().manual_seed(0)
    cropped, labels = cells.augmented(images, masks, recipe, draws)
    assert cropped.shape == images.shape
    assert cropped.dtype == labels.dtype == torch.uint8
    sure = (cropped[:, 0] < 5) | (cropped[:, 0] > 250)
    assert torch.equal((cropped[:, 0] > 127)[sure], (labels == 1)[sure])
    assert not torch.equal(labels, masks)


def test_the_papers_order_is_that_of_its_table(table1) -> None:
    theirs = {method: table1.PAPER[method][16] for method in table1.METHODS}
    assert table1._order(theirs) == "np > ffx > shf"
