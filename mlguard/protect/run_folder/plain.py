"""A trained model that needs no key, from which binding starts."""

from pathlib import Path
from typing import Any

from mlguard.data import name_classes
from mlguard.errors import RunError
from mlguard.protect.key_work import Build, check_normalization, name_of
from mlguard.protect.run_folder.names import BASELINE, BOUND, BUILT_BY, PROTECTION
from mlguard.protect.run_folder.run import Run, read_run
from mlguard.protect.run_folder.setup import read_setup
from mlguard.recipe import Recipe


def read_plain(
    path: Path,
    recipe: Recipe | None = None,
    *,
    build: Build | None = None,
) -> Run:
    """Read a plain run folder, or a weights file together with its recipe.

    Args:
        path: The folder, or a .safetensors file.
        recipe: The recipe of a weights file; a folder has its own.
        build: The function that makes the model, if it was trained with a `build`.

    Raises:
        RunError: The run is protected; or there is no recipe, or two, or it does not
            name the classes or the normalization of `build`'s model.
        DatasetError: The recipe names other classes than CIFAR-10 has.
        MalformedRun: The folder is not a run folder, or is damaged.
    """
    if path.is_dir():
        if recipe is not None:
            raise RunError(f"{path} is a run folder and has its own recipe")
        run = read_run(path, build=build)
        if run.protection is not None:
            raise _protected(path, run.path)
        return _pinned(run)
    if recipe is None:
        raise RunError(
            f"{path} is not a run folder",
            hint="give the --out of `mlguard train`, or a .safetensors file together "
            "with --recipe",
        )
    if (path.parent / PROTECTION).exists():
        raise _protected(path, path.parent)
    check_normalization(recipe, build)
    facts: dict[str, Any] = {"data": {"kind": recipe.data.kind}, "resumed": []}
    if build is not None:
        facts[BUILT_BY] = name_of(build)
    named = _with_classes(recipe)
    return _pinned(Run(path.parent, named, None, facts, build, path.name))


def _pinned(run: Run) -> Run:
    """Return the run with its weights pinned: no others are accepted from here on.

    Time passes before they are used, while a passphrase is asked for.
    """
    _ = run.weights_sha256
    return run


def _with_classes(recipe: Recipe) -> Recipe:
    """Return the recipe with its classes named, without data that could name them."""
    if recipe.data.kind != "cifar10" and not recipe.data.class_names:
        raise RunError(
            "the recipe does not name the classes that the weights were trained for",
            hint="name them, in the order of the model's outputs, with --set "
            "'data.class_names=[…]' or in a recipe file; or give the run folder of "
            "`mlguard train`, which has them",
        )
    data = name_classes(recipe.data, None)
    return recipe.model_copy(update={"data": data})


def _protected(given: Path, run: Path) -> RunError:
    """Return the refusal of a model that already needs a key."""
    was_bound = BOUND in read_setup(run).provenance
    plain, twin = "train a plain model with `mlguard train`", run / BASELINE
    if was_bound:
        plain = f"give the model another key with `mlguard rebind {run}`"
    return RunError(
        f"{given} holds a protected model, expected a plain one",
        hint=f"give {twin}; or {plain}" if twin.exists() else plain,
    )
