"""The audit of a bundle: a recipe says where its images are, if one is named.

Needs torch, for the images; the model is run by onnxruntime alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from mlguard import recipe
from mlguard.audit.findings import limits_of
from mlguard.audit.run import Adversary
from mlguard.audit.target import check_data, data_of, target_of_bundle
from mlguard.bundle import Bundle2, Provenance, backbone_of, glimpse_bundle
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
from mlguard.errors import RunError
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
        folder: Of the data set.
        options: In place of what the recipe says.
        key_name: What the owner's keystore calls the key.
        recipe_name: Whose [data] and [audit] hold; None for what the bundle says.
        overrides: Of fields of that recipe.

    Raises:
        BundleError: It is no bundle, or was damaged.
        RecipeError: There is no such recipe, or it is unfit.
        RunError: There is no such device, attack or budget, or several processes.
        DatasetError: The images are missing, or not those the bundle is for.
    """
    if int(os.environ.get(PROCESSES, "1")) > 1:
        raise RunError(
            "an audit of a bundle is one process",
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
    split, name = known_split(options.split), bundle.name
    data, audit = data_of(bundle.manifest, name=name), recipe.Audit()
    # Chooses the images that were held out; only older bundles say it themselves.
    facts = bundle.manifest.provenance
    training_seed = facts.seed if isinstance(facts, Provenance) else 0
    if recipe_name is not None:
        given = read_recipe(recipe_name, overrides=overrides)
        data, audit = name_classes(given.data, folder), given.audit
        training_seed = training_seed or given.train.seed
    check_data(bundle.manifest, data, name=name)
    settings = settings_of(audit, options)
    adversary = None
    if settings.budget != "none":
        other = other_split(split)
        images = open_split(data, folder, other, seed=training_seed)
        adversary = Adversary(images, other)
    return AuditTask(
        target_under=lambda key: target_of_bundle(
            bundle,
            key,
            data,
            settings,
            key_name=key_name,
            device=options.device,
            data_words=_data_words(recipe_name, overrides),
        ),
        key_name=key_name,
        key_id=bundle.manifest.key_id,
        images=open_split(data, folder, split, seed=training_seed),
        split=split,
        settings=settings,
        limits=limits_of(settings, claims_of(options)),
        adversary=adversary,
        examples=options.examples,
    )


def _data_words(name: str | None, overrides: Sequence[str]) -> tuple[str, ...]:
    """How to say it again; a file's path is the reader's own."""
    if name is None:
        return ()
    words = ["--recipe", name if name in shipped_recipes() else "RECIPE"]
    for override in overrides:
        words += ["--set", override]
    return tuple(words)
