"""Small models in two halves that tests share."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from mlguard.models.split import Backbone
from mlguard.protect import DataFolder, Job, Run
from mlguard.protect.export import export_run
from mlguard.recipe import Recipe
from mlguard.runtime import Session
from tests.runs import KEY, small_recipe

MAPS = ("features.2", "features.4")
OVERRIDES = (
    "data.size=[32, 32]",
    "transform.method=split",
    "model.name=sliced_segmenter",
    "model.backbone=mobilenet_v2",
    'model.maps=["features.2", "features.4"]',
    "model.widths=[8, 12]",
    "model.side=4",
    "model.mean=[0.5, 0.5, 0.5]",
    "model.std=[0.5, 0.5, 0.5]",
    "train.views=1",
)


def public_weights(folder: Path, *, seed: int = 7) -> Path:
    """What stands for weights that somebody published."""
    path = folder / f"public-{seed}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        backbone = Backbone("mobilenet_v2", MAPS)
        save_file(dict(backbone.encoder.state_dict()), path)
    return path


def split_recipe(weights: Path, *overrides: str) -> Recipe:
    """A recipe of a model in two halves that trains in a second or two."""
    return small_recipe(*OVERRIDES, f"model.weights={weights}", *overrides)


@dataclass(frozen=True)
class Exported:
    """A trained model in two halves, and both of its files."""

    run: Run
    bundle: Path
    backbone: Path

    def session(self, **options) -> Session:
        return Session.open(self.bundle, KEY, backbone=self.backbone, **options)


def exported(folder: Path) -> Exported:
    """Train one under KEY for a second, and export it."""
    recipe = split_recipe(public_weights(folder / "public"))
    job = Job(folder / "run", recipe, DataFolder(None), device="cpu")
    run = job.protect(KEY, key_name="acme")
    report = export_run(run, KEY, folder / "acme.mlgb")
    assert report.agreement == 1
    assert report.backbone == folder / "backbone.onnx"
    return Exported(run, folder / "acme.mlgb", report.backbone)
