"""Small models in two halves that tests share."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

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


FILE_MAPS = ("/1/Relu_output_0", "/3/Relu_output_0")  # of strides 2 and 8


def encoder_of_file() -> nn.Sequential:
    """Stands for an encoder that somebody published as an ONNX file."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 7, stride=4, padding=3),
        nn.ReLU(),
        nn.Conv2d(12, 4, 1),
    )


def public_file(folder: Path, *, seed: int = 7) -> tuple[Path, nn.Sequential]:
    """An encoder's file, for one image of 32 by 32 pixels, and the encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"public-{seed}.onnx"
    torch.manual_seed(seed)
    encoder = encoder_of_file().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter says that there is a newer one
        torch.onnx.export(
            encoder, (torch.zeros(1, 3, 32, 32),), path, dynamo=False, opset_version=17
        )
    return path, encoder


def file_overrides(path: Path) -> tuple[str, ...]:
    """A recipe's fields for a backbone in a file."""
    maps = ", ".join(f'"{one}"' for one in FILE_MAPS)
    return (f"model.backbone={path}", f"model.maps=[{maps}]", "model.weights=none")


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


def exported(folder: Path, *overrides: str) -> Exported:
    """Train one under KEY for a second, and export it."""
    recipe = split_recipe(public_weights(folder / "public"), *overrides)
    job = Job(folder / "run", recipe, DataFolder(None), device="cpu")
    run = job.protect(KEY, key_name="acme")
    report = export_run(run, KEY, folder / "acme.mlgb")
    assert report.agreement == 1
    assert report.backbone == folder / "backbone.onnx"
    return Exported(run, folder / "acme.mlgb", report.backbone)
