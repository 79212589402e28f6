"""Small training runs that tests share."""

from pathlib import Path

from mlguard.keys import ModelKey
from mlguard.protect import DataFolder, Job, Run
from mlguard.protect.training.loop import Epoch, Step
from mlguard.recipe import Recipe, read_recipe

KEY = ModelKey(bytes(range(32)))
OTHER_KEY = ModelKey(bytes(32))
SMALL = (
    "data.size=[16, 16]",
    "data.shapes_images=[12, 4, 6]",
    "train.batch=4",
    "train.epochs=2",
)


# How the pixels of a model of one's own are normalized, which is asked for.
HALF = ("model.mean=[0.5, 0.5, 0.5]", "model.std=[0.5, 0.5, 0.5]")


def small_recipe(*overrides: str) -> Recipe:
    """The demo's recipe, cut down to a second or two."""
    return read_recipe("demo", overrides=[*SMALL, *overrides])


def small_job(path: Path, *overrides: str, **options) -> Job:
    """A job that trains a small model."""
    recipe = small_recipe(*overrides)
    return Job(path, recipe, DataFolder(None), device="cpu", **options)


def small_run(path: Path, *overrides: str, key: ModelKey = KEY, **options) -> Run:
    """Protect a small model."""
    return small_job(path, *overrides, **options).protect(key, key_name="acme")


def small_baseline(path: Path, *overrides: str, **options) -> Run:
    """Train a small plain model, the twin of what `small_run` protects."""
    return small_job(path, *overrides, **options).train_baseline(KEY)


class PowerCut(Exception):
    """Stands for a kill: nothing after it runs."""


def killed_run(path: Path) -> Path:
    """A protected run that was killed after its first epoch was saved."""

    def cut(event: Step | Epoch) -> None:
        if isinstance(event, Epoch) and event.metrics["epoch"] == 2:
            raise PowerCut

    try:
        small_run(path, watch=cut)
    except PowerCut:
        return path
    raise AssertionError("it was not killed")
