"""One small classifier, trained once for all tests of its way to an answer."""

from pathlib import Path

import pytest

from mlguard.keys import ModelKey
from mlguard.protect import DataFolder, Job, Run, named_recipe
from mlguard.protect.export import export_run
from mlguard.recipe import Recipe, parse_recipe
from tests.exports import exporter_is_asked_once
from tests.images import write_class_folders

__all__ = ["exporter_is_asked_once"]

KEY = ModelKey(bytes(range(32)))
RECIPE = """
recipe = 1
[data]
kind = "imagefolder"
size = [16, 16]
validation = 6
[transform]
method = "shf"
block_size = 4
[model]
name = "cnn_small"
[train]
epochs = 3
batch = 8
optimizer = "adamw"
learning_rate = 5e-3
keep = "best_validation_accuracy"
[audit]
incorrect_keys = 3
nearby = [0.5]
nearby_keys = 1
"""


def small_recipe(*overrides: str) -> Recipe:
    return parse_recipe(RECIPE, name="test", overrides=overrides)


def small_job(
    path: Path, root: Path | None, recipe: Recipe | None = None, **options
) -> Job:
    """A job that trains a small classifier on the images of a folder."""
    data = DataFolder(root)
    named = named_recipe(recipe or small_recipe(), data)
    return Job(path, named, data, device="cpu", **options)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blue, green and red images in class folders."""
    return write_class_folders(tmp_path_factory.mktemp("classes"), train=12, test=11)


@pytest.fixture(scope="session")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("classifier") / "run"
    protected = small_job(path, pictures).protect(KEY, key_name="acme")
    small_job(path / "baseline", pictures).train_baseline(KEY)
    return protected


@pytest.fixture(scope="session")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "acme.mlgb"
    export_run(run, KEY, path, sealed=False)
    return path
