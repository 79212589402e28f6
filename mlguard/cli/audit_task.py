"""What `mlguard audit` does between its options and its report. Needs torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import torch

from mlguard import recipe
from mlguard.audit.run import Audit, audit_run, protection_of
from mlguard.data import SegmentationSet, open_split
from mlguard.errors import DatasetError
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
    ) -> Self:
        """Read the run folder and find the images.

        Raises:
            MalformedRun: The folder is not a finished, protected run.
            RunError: There is no such device here.
            DatasetError: The images are missing, or there is no such split.
        """
        run = read_run(path)
        protection_of(run)
        place = pick_device(device)
        known = _known_split(split)
        changes = {"incorrect_keys": incorrect_keys, "seed": seed}
        given = {name: value for name, value in changes.items() if value is not None}
        return cls(
            subject=run,
            # The run's seed, so that held-out validation images are the same ones.
            dataset=open_split(
                run.recipe.data, data, known, seed=run.recipe.train.seed
            ),
            settings=run.recipe.audit.model_copy(update=given),
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

    def run(self, key: ModelKey, progress: Progress) -> Audit:
        """Measure, and give the report and its pictures."""
        return audit_run(
            self.subject,
            key,
            self.dataset,
            split=self.split,
            settings=self.settings,
            device=self.device,
            examples=self.examples,
            progress=progress,
        )


def _known_split(name: str) -> Split:
    splits: tuple[Split, ...] = get_args(Split)
    for split in splits:
        if name == split:
            return split
    raise DatasetError(f"--split: expected one of {', '.join(splits)}, got {name!r}")
