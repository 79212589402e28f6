"""The whole job of protecting a model: data, weights, key, training, run folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from mlguard.data import TrainingSet, open_split
from mlguard.errors import MalformedRun, RunExists
from mlguard.files import prepare_output_folder
from mlguard.keys import ModelKey, new_protection_id
from mlguard.models import build_model, normalization_of
from mlguard.models.keyed_transform import TorchTransform, plain
from mlguard.protect import run as folder
from mlguard.protect.evaluate import Condition
from mlguard.protect.loop import Watcher, new_accelerator, train
from mlguard.protect.provenance import machine, versions
from mlguard.protect.run import Protection, Run, read_run, read_setup
from mlguard.recipe import Recipe, recipe_sha256

CheckProgress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Source:
    """Where the data is, and what it takes to open it."""

    root: Path | None
    download: bool = False


def protect(
    path: Path,
    recipe: Recipe,
    key: ModelKey,
    *,
    key_name: str,
    source: Source,
    device: str = "auto",
    resume: bool = False,
    watch: Watcher,
    check: CheckProgress | None = None,
) -> Run:
    """Train a model that needs the key.

    Args:
        path: The run folder: new or empty, or with `resume` one that was begun.
        recipe: What to train, on what, how.
        key: The model key.
        key_name: What the owner's keystore calls the key; written into the run.
        source: The data.
        device: "auto", "cpu" or "cuda".
        resume: Go on with an unfinished run, or begin it. A finished one is left as
            it is.
        watch: Told about steps and epochs.
        check: Told how the check of the data goes.

    Raises:
        RunExists: The folder holds something, and `resume` was not asked for.
        MalformedRun: The run was begun with another recipe, or is damaged.
        WrongKey: The run was begun with another key.
        MlguardError: As `train` and `open_split`.
    """
    accelerator = new_accelerator(device, recipe.train.precision)

    def new_protection() -> Protection:
        identifier = torch.frombuffer(bytearray(new_protection_id()), dtype=torch.uint8)
        shared = broadcast(identifier.to(accelerator.device)).cpu()
        return Protection(bytes(shared.tolist()), key.key_id, key_name)

    protection = _set_up(path, recipe, new_protection, accelerator, resume=resume)
    if protection is None:
        raise MalformedRun(f"{path} is a baseline run, which needs no key")
    transform = protection.transform(recipe, key)
    condition = TorchTransform(transform, accelerator.device)
    return _train(path, recipe, condition, source, accelerator, watch, check)


def train_baseline(
    path: Path,
    recipe: Recipe,
    *,
    source: Source,
    device: str = "auto",
    resume: bool = False,
    watch: Watcher,
    check: CheckProgress | None = None,
) -> Run:
    """Train the plain twin: same recipe, same seed, same data order, no key.

    Takes and raises what `protect` does, but for the key.
    """
    accelerator = new_accelerator(device, recipe.train.precision)
    _set_up(path, recipe, lambda: None, accelerator, resume=resume)
    return _train(path, recipe, plain, source, accelerator, watch, check)


def _set_up(
    path: Path,
    recipe: Recipe,
    new_protection: Callable[[], Protection | None],
    accelerator: Accelerator,
    *,
    resume: bool,
) -> Protection | None:
    """Write the run's setup, or read that of the run to resume."""
    if resume and (path / folder.RECIPE).exists():
        begun, protection = read_setup(path)
        if begun != recipe:
            raise MalformedRun(
                f"{path} was begun with another recipe",
                hint="give the recipe and the --set values it was begun with, "
                f"or --recipe {path / folder.RECIPE}",
            )
        return protection
    protection = new_protection()
    if accelerator.is_main_process:
        try:
            prepare_output_folder(path)
        except RunExists as refusal:
            begun_before = (path / folder.RECIPE).exists()
            advice = "; --resume goes on with an unfinished run" if begun_before else ""
            raise RunExists(str(refusal), hint=RunExists.hint + advice) from None
        folder.write_setup(path, recipe, protection)
    accelerator.wait_for_everyone()
    return protection


def _train(
    path: Path,
    recipe: Recipe,
    condition: Condition,
    source: Source,
    accelerator: Accelerator,
    watch: Watcher,
    check: CheckProgress | None,
) -> Run:
    if (path / folder.MODEL).exists() and not (path / folder.CHECKPOINT).exists():
        return read_run(path)  # finished already
    seed = recipe.train.seed
    training_set = open_split(
        recipe.data, source.root, "train", seed=seed, download=source.download
    )
    validation_set = open_split(recipe.data, source.root, "validation", seed=seed)
    for dataset in (training_set, validation_set):
        dataset.check(check)
    torch.manual_seed(seed)
    model = build_model(recipe.model, recipe.data.classes)
    if accelerator.is_main_process:
        provenance = {
            "recipe_sha256": recipe_sha256(recipe),
            "seed": seed,
            "data": {
                "kind": recipe.data.kind,
                "train_images": len(training_set),
                "train_fingerprint": training_set.fingerprint,
                "validation_images": len(validation_set),
                "validation_fingerprint": validation_set.fingerprint,
            },
            "versions": versions(),
            "machine": machine(accelerator.device)
            | {"processes": accelerator.num_processes},
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        folder.write_json(path / folder.PROVENANCE, provenance)
    train(
        path,
        model,
        TrainingSet(training_set, recipe.data, seed),
        validation_set,
        spec=recipe.train,
        condition=condition,
        normalization=normalization_of(recipe.model),
        accelerator=accelerator,
        watch=watch,
        workers=recipe.data.workers,
    )
    return read_run(path)
