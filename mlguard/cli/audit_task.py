"""What `mlguard audit` does for a run folder, after its options. Needs torch.

What it does for a bundle is in `bundle_audit_task.py`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import torch

from mlguard import recipe
from mlguard.audit.attacks.campaign import check_names
from mlguard.audit.budgets import BUDGETS
from mlguard.audit.run import (
    Adversary,
    AttackProgress,
    Audit,
    audit_run,
)
from mlguard.audit.target import protection_of
from mlguard.data import LabelledSet, open_split
from mlguard.errors import DatasetError, RunError
from mlguard.keys import ModelKey
from mlguard.models import fitting_weights
from mlguard.protect.crew import ALONE, Crew
from mlguard.protect.device import new_accelerator, pick_device
from mlguard.protect.run import Run, read_run

Split = Literal["train", "validation", "test"]

Progress = Callable[[int, int], None]

PROCESSES = "WORLD_SIZE"  # torchrun says so how many there are


@dataclass(frozen=True)
class AuditTask:
    """One audit, with everything that can be checked before a key is asked for."""

    subject: Run
    dataset: LabelledSet
    settings: recipe.Audit
    split: str
    adversary: Adversary | None
    device: torch.device
    crew: Crew
    examples: int

    @classmethod
    def open(
        cls,
        path: Path,
        data: Path | None,
        *,
        split: str,
        device: str,
        examples: int,
        incorrect_keys: int | None,
        seed: int | None,
        budget: str | None,
        attacks: str | None,
        ancestor: Path | None = None,
    ) -> Self:
        """Read the run folder and find the images.

        Raises:
            MalformedRun: The folder is not a finished, protected run.
            RunError: There is no such device here, or no such attack or budget.
            DatasetError: The images are missing, or there is no such split.
            WeightsError: The ancestor is missing, or of another architecture.
        """
        run = read_run(path)
        protection_of(run)
        place, crew = _crew(device)
        known = known_split(split)
        settings = settings_of(
            run.recipe.audit,
            incorrect_keys=incorrect_keys,
            seed=seed,
            budget=budget,
            attacks=attacks,
        )

        def images(of: Split) -> LabelledSet:
            # The run's seed, so that held-out validation images are the same ones.
            return open_split(run.recipe.data, data, of, seed=run.recipe.train.seed)

        adversary = None
        if settings.budget != "none":
            other = other_split(known)
            adversary = Adversary(images(other), other, _ancestor(run, ancestor))
        return cls(
            subject=run,
            dataset=images(known),
            settings=settings,
            adversary=adversary,
            split=known,
            device=place,
            crew=crew,
            # Only the first process draws the page.
            examples=examples if crew.first else 0,
        )

    @property
    def key_name(self) -> str:
        """What the owner's keystore calls the key."""
        return protection_of(self.subject).key_name

    @property
    def key_id(self) -> str:
        """The key that the model was protected with."""
        return protection_of(self.subject).key_id

    def check_images(self, progress: Progress) -> None:
        """Decode every image once.

        Raises:
            DatasetError: An image or a mask is missing, damaged, or has other classes.
        """
        self.dataset.check(progress)
        if self.adversary is not None:
            self.adversary.dataset.check(progress)

    def run(
        self,
        key: ModelKey,
        progress: Progress,
        attack_progress: AttackProgress,
        *,
        log: Path,
        resume: bool,
    ) -> Audit:
        """Measure, and give the report and its pictures."""
        return audit_run(
            self.subject,
            key,
            self.dataset,
            split=self.split,
            settings=self.settings,
            adversary=self.adversary,
            device=self.device,
            examples=self.examples,
            progress=progress,
            attack_progress=attack_progress,
            log=log,
            resume=resume,
            crew=self.crew,
        )


def _crew(device: str) -> tuple[torch.device, Crew]:
    """The device of this process, and the other processes of torchrun."""
    if int(os.environ.get(PROCESSES, "1")) < 2:
        return pick_device(device), ALONE
    engine = new_accelerator(device, "no")
    return engine.device, Crew.of(engine)


def settings_of(
    settings: recipe.Audit,
    *,
    incorrect_keys: int | None,
    seed: int | None,
    budget: str | None,
    attacks: str | None,
) -> recipe.Audit:
    """The recipe's settings, changed by options. Attacks without a budget are quick."""
    changes: dict[str, object] = {"incorrect_keys": incorrect_keys, "seed": seed}
    if budget is not None:
        if budget not in BUDGETS and budget != "none":
            known = ", ".join(["none", *BUDGETS])
            raise RunError(f"--budget: expected one of {known}, got {budget!r}")
        changes["budget"] = budget
    if attacks is not None:
        names = tuple(name.strip() for name in attacks.split(",") if name.strip())
        check_names(names)
        changes["attacks"] = names
        if budget is None and settings.budget == "none":
            changes["budget"] = "quick"
    given = {name: value for name, value in changes.items() if value is not None}
    return settings.model_copy(update=given)


def _ancestor(run: Run, path: Path | None) -> Path | None:
    """Public weights, read once so that they are refused before anything is measured.

    Raises:
        RunError: It is no .safetensors file.
        WeightsError: It is missing or damaged, or of another architecture.
    """
    if path is None:
        return None
    if path.suffix != ".safetensors":
        raise RunError(
            f"--ancestor: expected a .safetensors file, got {str(path)!r}",
            hint="the weights of a plain model of the same architecture, such as "
            "baseline/model.safetensors of another run",
        )
    public = run.recipe.model.model_copy(update={"weights": str(path)})
    fitting_weights(run.load_model(), public)
    return path


def other_split(name: Split) -> Split:
    """Whose images attacks use: never the audited ones, nor any that were trained on.

    Args:
        name: The audited split.
    """
    return "test" if name == "validation" else "validation"


def known_split(name: str) -> Split:
    """The split of a name.

    Raises:
        DatasetError: There is none.
    """
    splits: tuple[Split, ...] = get_args(Split)
    for split in splits:
        if name == split:
            return split
    raise DatasetError(f"--split: expected one of {', '.join(splits)}, got {name!r}")
