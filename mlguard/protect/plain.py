"""A trained model that needs no key: what binding starts from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mlguard.data import name_classes
from mlguard.errors import RunError
from mlguard.protect import run as folder
from mlguard.protect.key_work import Build
from mlguard.protect.run import read_model, read_run
from mlguard.recipe import Recipe


@dataclass(frozen=True)
class PlainModel:
    """A trained model that needs no key.

    Attributes:
        weights: Its file, safetensors.
        recipe: What it was trained by.
        provenance: What is known of its training.
        build: Makes the model, if the recipe's architecture does not.
    """

    weights: Path
    recipe: Recipe
    provenance: dict[str, Any]
    build: Build | None = None

    def load(self) -> nn.Module:
        """The model, in eval mode, on the CPU.

        Raises:
            MalformedRun: As `read_model`.
        """
        return read_model(self.weights, self.recipe, self.build)


def read_plain(
    path: Path, recipe: Recipe | None = None, *, build: Build | None = None
) -> PlainModel:
    """Read a plain run folder, or take a weights file together with its recipe.

    Args:
        path: The folder, or a .safetensors file.
        recipe: Of a file; a folder has one.
        build: Makes the model, if it was trained with a `build` of its own.

    Raises:
        RunError: The run is protected; or a recipe is missing, or there are two, or
            it names no classes.
        DatasetError: The recipe names other classes than CIFAR-10 has.
        MalformedRun: The folder is not a run folder, or is damaged.
    """
    if path.is_dir():
        if recipe is not None:
            raise RunError(f"{path} is a run folder and has a recipe of its own")
        run = read_run(path, build=build)
        if run.protection is not None:
            raise _protected(path, path)
        return PlainModel(path / folder.MODEL, run.recipe, run.provenance, build)
    if recipe is None:
        raise RunError(
            f"{path} is not a run folder",
            hint="give the --out of `mlguard train`, or a .safetensors file together "
            "with --recipe",
        )
    if (path.parent / folder.PROTECTION).exists():
        raise _protected(path, path.parent)
    facts = {"data": {"kind": recipe.data.kind}, "resumed": []}
    return PlainModel(path, _with_classes(recipe), facts, build)


def _with_classes(recipe: Recipe) -> Recipe:
    """The same recipe, its classes named: no data is at hand that could name them."""
    if recipe.data.kind != "cifar10" and not recipe.data.class_names:
        raise RunError(
            "the recipe does not name its classes, which the weights were trained for",
            hint="name them, in the order of the model's outputs, with --set "
            "'data.class_names=[…]' or in a recipe file; or give the run folder of "
            "`mlguard train`, which has them",
        )
    data = name_classes(recipe.data, None)
    return recipe.model_copy(update={"data": data})


def _protected(given: Path, run: Path) -> RunError:
    """The refusal of a model that needs a key already."""
    was_bound = folder.BOUND in folder.read_provenance(run)
    plain, twin = "train a plain model with `mlguard train`", run / folder.BASELINE
    if was_bound:
        plain = f"give the model another key with `mlguard rebind {run}`"
    return RunError(
        f"{given} holds a protected model, expected a plain one",
        hint=f"give {twin}; or {plain}" if twin.exists() else plain,
    )
