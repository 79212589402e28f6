"""Read the plain model that lock training holds the authorized answer close to."""

from pathlib import Path

from torch import nn

from mlguard.errors import MalformedRun, WeightsError
from mlguard.protect import run_folder
from mlguard.protect.key_work import Build
from mlguard.recipe import Recipe


def read_teacher(recipe: Recipe, build: Build | None) -> nn.Module:
    """Return the model whose answers are kept; its file holds all of it.

    Raises:
        WeightsError: The file is missing, damaged or of another model.
    """
    try:
        taught = run_folder.read_model(Path(recipe.lock.teacher), recipe, build)
    except MalformedRun as refused:
        raise WeightsError(
            f"lock.teacher: {refused}",
            hint="give model.safetensors of a plain run of the same recipe, as "
            "`mlguard train` or `mlguard protect --baseline` writes it",
        ) from None
    return taught.requires_grad_(False)
