"""What `mlguard audit` does between its options and its report. Needs torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import torch

from mlguard import recipe
from mlguard.audit.attacks.campaign import check_names
from mlguard.audit.budgets import BUDGETS
from mlguard.audit.describe import protection_of
from mlguard.audit.run import (
    Adversary,
    AttackProgress,
    Audit,
    audit_run,
)
from mlguard.data import SegmentationSet, open_split
from mlguard.errors import DatasetError, RunError
from mlguard.keys import ModelKey
from mlguard.protect.device import pick_device
from mlguard.protect.run import Run, read_run

Split = Literal["train", "validation", "test"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AuditTask:
    """One audit, with everything that can be checked before a key is asked for."""

    subject: Run
    dataset: SegmentationSet
    settings: recipe.Audit
    split: str
    adversary: Adversary | None
    device: torch.device
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
    ) -> Self:
        """Read the run folder and find the images.

        Raises:
            MalformedRun: The folder is not a finished, protected run.
            RunError: There is no such device here, or no such attack or budget.
            DatasetError: The images are missing, or there is no such split.
        """
        run = read_run(path)
        protection_of(run)
        place = pick_device(device)
        known = _known_split(split)
        settings = _settings(
            run.recipe.audit,
            incorrect_keys=incorrect_keys,
            seed=seed,
            budget=budget,
            attacks=attacks,
        )

        def images(of: Split) -> SegmentationSet:
            # The run's seed, so that held-out validation images are the same ones.
            return open_split(run.recipe.data, data, of, seed=run.recipe.train.seed)

        adversary = None
        if settings.budget != "none":
            # Never the audited images, and none the model was trained on.
            other: Split = "test" if known == "validation" else "validation"
            adversary = Adversary(images(other), other)
        return cls(
            subject=run,
            dataset=images(known),
            settings=settings,
            adversary=adversary,
            split=known,
            device=place,
            examples=examples,
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
        )


def _settings(
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


def _known_split(name: str) -> Split:
    splits: tuple[Split, ...] = get_args(Split)
    for split in splits:
        if name == split:
            return split
    raise DatasetError(f"--split: expected one of {', '.join(splits)}, got {name!r}")
