"""Small training runs that tests share."""

from pathlib import Path

from mlguard.keys import ModelKey
from mlguard.protect import Run, Source, protect, train_baseline
from mlguard.recipe import Recipe, read_recipe

KEY = ModelKey(bytes(range(32)))
OTHER_KEY = ModelKey(bytes(32))
SMALL = (
    "data.size=[16, 16]",
    "data.shapes_images=[12, 4, 6]",
    "train.batch=4",
    "train.epochs=2",
)


def small_recipe(*overrides: str) -> Recipe:
    """The demo's recipe, cut down to a second or two."""
    return read_recipe("demo", overrides=[*SMALL, *overrides])


def small_run(path: Path, *overrides: str, watch=print, **options) -> Run:
    """Protect a small model."""
    return protect(
        path,
        small_recipe(*overrides),
        options.pop("key", KEY),
        key_name="acme",
        source=Source(None),
        device="cpu",
        watch=watch,
        **options,
    )


def small_baseline(path: Path, *overrides: str, watch=print, **options) -> Run:
    """Train a small plain model."""
    return train_baseline(
        path,
        small_recipe(*overrides),
        source=Source(None),
        device="cpu",
        watch=watch,
        **options,
    )
