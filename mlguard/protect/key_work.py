"""The model of a recipe, and a key's transforms of it."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from mlguard.errors import RunError
from mlguard.models import build_model, feature_channels, rewrite
from mlguard.models.binding import keyed_norms
from mlguard.models.split import Sliced, cannot_learn
from mlguard.recipe import Recipe
from mlguard.transforms import KeyedTransforms

Build = Callable[[], nn.Module]
MAX_NAME = 200  # characters of a function's name


def name_of(build: Build) -> str:
    """Return the name of a function that makes a model: module and name, for people.

    It is never imported: a run folder does not name code to run.
    """
    called = getattr(build, "__qualname__", type(build).__qualname__)
    module = getattr(build, "__module__", "")
    return f"{module}:{called}"[:MAX_NAME]


def check_normalization(recipe: Recipe, build: Build | None) -> None:
    """Refuse an own model without mean and std.

    Raises:
        RunError: The recipe gives neither mean and std nor weights that have them.
    """
    said = recipe.model.mean is not None or recipe.model.weights != "none"
    if build is not None and not said:
        raise RunError(
            "the normalization of this model's pixels is not given",
            hint="set model.mean and model.std in the recipe to the model's own, each "
            "[R, G, B] of an image in [0, 1]",
        )


def check_twin(recipe: Recipe) -> None:
    """Refuse a plain model of a recipe that has none.

    Raises:
        RunError: Its backbone is an ONNX file, which cannot learn.
    """
    if recipe.model.backbone is not None and recipe.model.backbone_is_file:
        raise cannot_learn(recipe.model.backbone)


def new_model(recipe: Recipe, build: Build | None = None) -> nn.Module:
    """Return the model of a recipe, with its initial weights.

    Args:
        recipe: The recipe, which names the architecture and the weights.
        build: A function that makes the model instead.

    Raises:
        WeightsError: The weights do not fit, or are not on this machine.
        ModelFileError: The backbone is an ONNX file that cannot be read.
        BindingError: The model cannot take the form that the recipe names.
        RunError: The recipe's method is split, and a function makes the model whole.
    """
    if build is not None:
        model = build()
        if recipe.transform.splits and not isinstance(model, Sliced):
            raise RunError(
                f"the method split needs a model in two halves, and {name_of(build)} "
                f"makes a {type(model).__name__}",
                hint="leave the function out, and say in the recipe which backbone, "
                "maps and widths; or seal the whole model with the method weights",
            )
    else:
        model = build_model(recipe.model, recipe.data.classes)
    return rewrite(model, recipe.model, recipe.transform.block_size)


def blank_model(recipe: Recipe, build: Build | None = None) -> nn.Module:
    """Return the model of a recipe with random weights."""
    spec, data = recipe.model.model_copy(update={"weights": "none"}), recipe.data
    if not data.classes:  # the data has yet to name them, and any number serves
        data = data.model_copy(update={"class_names": ("any", "other")})
    return new_model(recipe.model_copy(update={"model": spec, "data": data}), build)


def hollow_model(recipe: Recipe, build: Build | None = None) -> nn.Module:
    """Return the model of a recipe whose tensors have shapes and no numbers.

    It is made at once and takes no memory. A model of one's own may not know how, and
    gets random weights.
    """
    with torch.device("cpu" if build else "meta"):
        return blank_model(recipe, build)


def key_space_of(
    recipe: Recipe, build: Build | None = None, *, shown: bool = False
) -> float:
    """Return the effective key space of a recipe, in bits. Needs no key.

    Args:
        recipe: The recipe of the protected model.
        build: A function that makes the model, if the recipe's architecture does not.
        shown: Whether the weights reveal the transform of images, which then does not
            count.

    Raises:
        RecipeError: The model lacks a layer that the recipe names.
        BindingError: The model has no batch norm that the method passport could act on.
    """
    return keyed_transforms(recipe, build).key_space(shown=shown)


def keyed_transforms(recipe: Recipe, build: Build | None = None) -> KeyedTransforms:
    """Return the keyed transforms of the protected model of a recipe.

    Args and raises: as in `key_space_of`.
    """
    spec = recipe.transform
    methods, size = spec.image_methods, spec.block_size
    if not spec.layers and not spec.keys_norms:
        return KeyedTransforms(methods, size)
    model = blank_model(recipe, build)
    channels = feature_channels(model, spec.layers, recipe.data.size)
    keyed = KeyedTransforms.of(methods, size, channels, signs=spec.signs)
    norms = keyed_norms(model) if spec.keys_norms else ()
    return replace(keyed, norms=norms)
