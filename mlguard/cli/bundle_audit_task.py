"""The audit of a bundle; a recipe, if given, describes its images.

It needs torch for the images; onnxruntime alone runs the model.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mlguard import recipe
from mlguard.audit.findings import limits_of
from mlguard.audit.run import Adversary
from mlguard.audit.target import check_data, data_of, target_of_bundle
from mlguard.bundle import (
    Bundle,
    Bundle2,
    Provenance,
    backbone_of,
    glimpse_bundle,
)
from mlguard.cli.audit_options import AuditOptions
from mlguard.cli.audit_task import (
    PROCESSES,
    AuditTask,
    claims_of,
    known_split,
    other_split,
    settings_of,
)
from mlguard.data import name_classes, open_split
from mlguard.errors import DatasetError, RunError
from mlguard.protect.device import DEVICES
from mlguard.recipe import read_recipe, shipped_recipes


def open_bundle(
    path: Path,
    folder: Path | None,
    options: AuditOptions,
    *,
    key_name: str,
    recipe_name: str | None,
    overrides: Sequence[str],
) -> AuditTask:
    """Read a bundle and find its images.

    Args:
        path: The bundle.
        folder: The folder of the data set.
        options: Options that replace the recipe's settings.
        key_name: The key's name in the owner's keystore.
        recipe_name: The recipe whose [data] and [audit] apply; None for the bundle's
            facts.
        overrides: Changed fields of that recipe.

    Raises:
        BundleError: It is not a bundle, or is damaged.
        RecipeError: The recipe does not exist, or is not valid.
        RunError: The device, an attack or the budget is unknown, or there are several
            processes.
        DatasetError: The images are missing, or do not match the bundle.
    """
    if int(os.environ.get(PROCESSES, "1")) > 1:
        raise RunError(
            "an audit of a bundle runs in one process",
            hint="start it without torchrun; onnxruntime uses all cores",
        )
    if options.device not in DEVICES:
        known = ", ".join(DEVICES)
        raise RunError(f"--device: expected {known}, got {options.device!r}")
    opened = glimpse_bundle(path)
    bundle = opened if isinstance(opened, Bundle2) else opened.whole()
    if backbone_of(bundle.manifest) is not None:
        raise RunError(
            f"{bundle.name} is the private half of a split model, which alone answers "
            "nothing",
            hint="audit the run folder that it was exported from",
        )
    split = known_split(options.split)
    said = _said_of(bundle, folder, recipe_name, overrides)
    check_data(bundle.manifest, said.data, name=bundle.name)
    settings = settings_of(said.audit, options)
    adversary = None
    if settings.budget != "none":
        other = other_split(split)
        images = open_split(said.data, folder, other, seed=said.seed)
        adversary = Adversary(images, other)
    return AuditTask(
        target_under=lambda key: target_of_bundle(
            bundle,
            key,
            said.data,
            settings,
            key_name=key_name,
            device=options.device,
            data_words=_data_words(recipe_name, overrides),
        ),
        key_name=key_name,
        key_id=bundle.manifest.key_id,
        images=open_split(said.data, folder, split, seed=said.seed),
        split=split,
        settings=settings,
        limits=limits_of(settings, claims_of(options)),
        adversary=adversary,
        examples=options.examples,
        reword=partial(_without_recipe, spec=said.data)
        if recipe_name is None
        else None,
    )


def _without_recipe(refusal: DatasetError, spec: recipe.Data) -> DatasetError:
    """Say of refused images what somebody can do who has a bundle and no recipe."""
    if "data.class_names" in refusal.hint:
        advice = (
            f"masks have the numbers of the bundle's {spec.classes} classes, in the "
            "order in which `mlguard inspect` lists them, and "
            f"{spec.ignore_index} where a pixel has none; if yours have others, "
            "change the masks, or describe them with --recipe"
        )
    elif "--set" in refusal.hint:
        advice = f"{refusal.hint}, of a recipe that --recipe names"
    else:
        return refusal
    return DatasetError(str(refusal), hint=advice)


class _Said(NamedTuple):
    """What bundle and recipe say of an audit.

    Attributes:
        data: The data set.
        audit: The [audit] section.
        seed: Chooses the images that were held out of the training.
    """

    data: recipe.Data
    audit: recipe.Audit
    seed: int


def _said_of(
    bundle: Bundle | Bundle2,
    folder: Path | None,
    recipe_name: str | None,
    overrides: Sequence[str],
) -> _Said:
    """What a recipe says, if one is named, else the bundle. Raises as open_bundle."""
    data, facts = data_of(bundle.manifest, name=bundle.name), bundle.manifest.provenance
    seed = facts.seed if isinstance(facts, Provenance) else 0  # of older bundles alone
    if recipe_name is None:
        return _Said(data, recipe.Audit(), seed)
    given = read_recipe(recipe_name, overrides=overrides)
    data = name_classes(given.data, folder)
    return _Said(data, given.audit, seed or given.train.seed)


def _data_words(name: str | None, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the words to repeat it; a file's path is the reader's own."""
    if name is None:
        return ()
    words = ["--recipe", name if name in shipped_recipes() else "RECIPE"]
    for override in overrides:
        words += ["--set", override]
    return tuple(words)
