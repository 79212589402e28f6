"""Fold a key's transforms into a model, and write the recipe of the result.

The module knows no run folder. The rewriting itself is in mlguard/models/binding.
"""

import difflib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlguard.errors import BindingError, ParityError
from mlguard.models import (
    Condition,
    Normalization,
    logits_of,
    normalization_of,
    output_of,
)
from mlguard.models.binding import (
    StemForm,
    absorb,
    affine_of,
    check_affine,
    check_layers,
    fold_permutations,
    form_of_stem,
    layers_of,
    side_of_patch,
)
from mlguard.protect.export import example_images
from mlguard.protect.key_work import hollow_model
from mlguard.protect.run_folder import Run
from mlguard.recipe import Recipe, dump_recipe, parse_recipe
from mlguard.rules import CHANNELS_METHOD, PASSPORT_METHOD, WEIGHTS_METHOD
from mlguard.transforms import TransformSet

IMAGES = 2  # compared
MAX_DIFFERENCE = 1e-4  # of two logits, as a share of the largest


def bound_recipe(
    plain: Run,
    *,
    methods: Sequence[str] = (),
    block_size: int | None = None,
    layers: Sequence[str] = (),
    fold_batch_norm: bool = False,
) -> Recipe:
    """Return the recipe of a plain model once bound; refuse what cannot be folded.

    Args:
        plain: The plain model.
        methods: The methods in their order; those of its recipe if none are given.
        block_size: M, in pixels; that of its recipe if None.
        layers: The layers whose channels are permuted, by their names in the model.
        fold_batch_norm: Whether batch norms are folded, so that no statistics ship.

    Raises:
        RecipeError: The methods, the block size and the layers cannot be combined.
        BindingError: They cannot be folded into this model.
    """
    spec = plain.recipe.transform
    chosen = [str(method) for method in methods or spec.methods]
    if layers and CHANNELS_METHOD not in chosen:
        sealed = WEIGHTS_METHOD in chosen
        chosen.insert(len(chosen) - sealed, CHANNELS_METHOD)
    if PASSPORT_METHOD in chosen:
        raise BindingError(
            "passport cannot be folded into a trained model: its weights give scale "
            "and bias only after training under the key",
            hint="train it with `mlguard protect`, or bind by the method weights",
        )
    on_images = bool(set(chosen) - {CHANNELS_METHOD, WEIGHTS_METHOD})
    if plain.recipe.model.stem == "blocks" and not on_images:
        raise BindingError(
            f"the stem of {plain.weights} works on blocks, but "
            f"`{'`, `'.join(chosen)}` does not change images",
            hint="add a method on images, such as orthogonal,channels",
        )
    named = layers or (spec.layers if CHANNELS_METHOD in chosen else ())
    blank = hollow_model(plain.recipe, plain.build)
    _check_names(blank, named)
    changes: dict[str, Any] = {
        "transform.method": chosen,
        "transform.layers": list(named),
        "transform.signs": False,  # version 0.1 could flip them
        "model.stem": "blocks" if on_images else "plain",
    }
    if block_size is not None:
        changes["transform.block_size"] = block_size
    if fold_batch_norm:
        changes["model.batch_norm"] = "folded"
    # JSON of a list, a text, a number or a truth is TOML too.
    overrides = [
        f"{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in changes.items()
    ]
    name = f"of {plain.weights}, bound,"
    recipe = parse_recipe(dump_recipe(plain.recipe), name=name, overrides=overrides)
    _check_images(blank, recipe)
    _check_layers(hollow_model(recipe, plain.build), recipe)
    return recipe


def _check_names(model: nn.Module, layers: Sequence[str]) -> None:
    """Refuse layers that the model does not have."""
    names = [name for name, _ in model.named_modules() if name]
    for layer in layers:
        if layer not in names:
            near = ", ".join(difflib.get_close_matches(layer, names))
            raise BindingError(
                f"the model has no layer {layer!r}",
                hint=f"near it: {near}" if near else "`mlguard layers` lists them",
            )


def _check_images(model: nn.Module, recipe: Recipe) -> None:
    """Refuse a transform of images that the stem cannot undo."""
    if not recipe.transform.image_methods:
        return
    block_size = recipe.transform.block_size
    check_affine(recipe.transform.image_methods, block_size)
    patch, size = side_of_patch(model), recipe.data.size
    whole = not any(side % patch for side in size)
    if form_of_stem(model, block_size) == "patch" and block_size < patch and not whole:
        raise BindingError(
            f"images of {size[0]} x {size[1]} pixels are not whole patches of {patch} "
            f"x {patch}, so the model's padding would be transformed too",
            hint=f"use blocks of {patch} x {patch} pixels (--block-size {patch})",
        )


def _check_layers(model: nn.Module, recipe: Recipe) -> None:
    """Refuse layers that cannot be permuted, or not all at once."""
    try:
        check_layers(model, recipe.transform.layers)
    except BindingError as refused:
        listed = layers_of(model, recipe.data.size)
        can = ", ".join(facts.name for facts in listed if not facts.refusal)
        hint = f"{refused.hint}; " if refused.hint else ""
        raise BindingError(str(refused), hint=f"{hint}these can be: {can}") from None


def stem_form(plain: Run, recipe: Recipe) -> StemForm | None:
    """Return the form of the stem; None if the key does not act on images.

    Raises:
        BindingError: The stem has no form for this block size.
    """
    if not recipe.transform.image_methods:
        return None
    model = hollow_model(plain.recipe, plain.build)
    return form_of_stem(model, recipe.transform.block_size)


def fold(
    model: nn.Module, transforms: TransformSet, normalization: Normalization
) -> None:
    """Make a model compute under a key what it computes without one, in place.

    Raises:
        BindingError: The key's transforms cannot be folded into this model.
    """
    if transforms.image is not None:
        affine = affine_of(transforms.image)
        absorb(model, affine.normalized(normalization.mean, normalization.std))
    fold_permutations(model, transforms.channels)


def unfold(
    model: nn.Module, transforms: TransformSet, normalization: Normalization
) -> None:
    """Undo `fold`: make a model compute without a key what it computes under one.

    Raises:
        BindingError: As in `fold`.
    """
    fold_permutations(model, [one.inverse() for one in transforms.channels])
    if transforms.image is not None:
        affine = affine_of(transforms.image)
        keyed = affine.normalized(normalization.mean, normalization.std)
        absorb(model, keyed.inverse())


@torch.inference_mode()
def answers(model: nn.Module, condition: Condition, recipe: Recipe) -> Tensor:
    """The logits that a model gives for a few example images under a condition."""
    images = torch.from_numpy(example_images((IMAGES, 3, *recipe.data.size), 0))
    normalization = normalization_of(recipe.model)
    return logits_of(output_of(model, images, condition, normalization))


def compare(got: Tensor, expected: Tensor) -> tuple[float, float]:
    """Compare the `answers` of a model before and after it was bound.

    Returns:
        The largest difference of two logits, and the largest logit.

    Raises:
        ParityError: They differ by more than rounding.
    """
    difference = float((got - expected).abs().max())
    largest = float(expected.abs().max())
    limit = MAX_DIFFERENCE * largest
    if not difference <= limit:  # NaN must be refused too
        raise ParityError(
            f"the bound model differs from the plain one: logits differ by "
            f"{difference:.1e}, limit is {limit:.1e}"
        )
    return difference, largest
