"""The audit of a run folder, by its own recipe. Needs torch."""

import os
from pathlib import Path

import torch

from mlguard.audit.findings import limits_of
from mlguard.audit.run import Adversary
from mlguard.audit.target import target_of_run
from mlguard.cli.audit_options import AuditOptions
from mlguard.cli.audit_task import (
    PROCESSES,
    AuditTask,
    Split,
    claims_of,
    known_split,
    other_split,
    settings_of,
)
from mlguard.cli.printable import warn
from mlguard.data import LabelledSet, open_split
from mlguard.errors import RunError
from mlguard.models import build_model, fitting_weights
from mlguard.protect.crew import ALONE, Crew
from mlguard.protect.device import new_accelerator, pick_device
from mlguard.protect.key_work import Build
from mlguard.protect.run_folder import Run, protection_of, read_run


def open_run(
    path: Path,
    data: Path | None,
    options: AuditOptions,
    *,
    ancestor: Path | None,
    build: Build | None = None,
) -> AuditTask:
    """Read a run folder and find its images.

    Args:
        path: The run folder.
        data: Folder of the data set.
        options: Options that replace the recipe's settings.
        ancestor: Public weights of the same architecture; default: the recipe's.
        build: The function that makes the model, if it is an own model.

    Raises:
        MalformedRun: The folder is not a finished, protected run.
        RunError: The device is missing, or an attack or the budget is unknown.
        DatasetError: The images are missing, or the split does not exist.
        WeightsError: The ancestor is missing, or of another architecture.
    """
    run = read_run(path, build=build)
    protection = protection_of(run)
    if run.recipe.transform.seals and (files := run.open_weights()):
        warn(
            f"the weights in {', '.join(map(str, files))} are in the clear, and the "
            "claims are judged accordingly; bind without --keep-plain to seal them"
        )
    device, crew = _crew(options.device)
    split = known_split(options.split)
    settings = settings_of(run.recipe.audit, options)

    def images(of: Split) -> LabelledSet:
        # The run's seed, so that held-out validation images are the same ones.
        return open_split(run.recipe.data, data, of, seed=run.recipe.train.seed)

    adversary = None
    if settings.budget != "none":
        other = other_split(split)
        adversary = Adversary(images(other), other, _ancestor(run, ancestor))
    return AuditTask(
        target_under=lambda key: target_of_run(run, key, settings, device),
        key_name=protection.key_name,
        key_id=protection.key_id,
        images=images(split),
        split=split,
        settings=settings,
        limits=limits_of(settings, claims_of(options)),
        adversary=adversary,
        # Only the first process draws the page.
        examples=options.examples if crew.first else 0,
        crew=crew,
    )


def _crew(device: str) -> tuple[torch.device, Crew]:
    """Return the device of this process, and all processes of torchrun."""
    if int(os.environ.get(PROCESSES, "1")) < 2:
        return pick_device(device), ALONE
    engine = new_accelerator(device, "no")
    return engine.device, Crew.of(engine)


def _ancestor(run: Run, path: Path | None) -> Path | None:
    """Read public weights once, so that they are refused before anything is measured.

    Raises:
        RunError: It is not a .safetensors file.
        WeightsError: It is missing or damaged, or of another architecture.
    """
    if path is None:
        return None
    if path.suffix != ".safetensors":
        raise RunError(
            f"--ancestor: expected a .safetensors file, got {str(path)!r}",
            hint="the weights of a plain model of the same architecture, such as "
            "baseline/model.safetensors of this run or another",
        )
    # As the architecture builds it: binding changes both in the same way.
    blank = run.recipe.model.model_copy(update={"weights": "none"})
    build = run.build or (lambda: build_model(blank, run.recipe.data.classes))
    fitting_weights(build(), blank.model_copy(update={"weights": str(path)}))
    return path
