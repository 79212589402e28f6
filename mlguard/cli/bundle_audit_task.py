"""What `mlguard audit` does for a bundle, between its options and its report.

Needs torch, for the images; the model is run by onnxruntime alone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mlguard import recipe
from mlguard.audit.bundle_target import check_data, data_of, target_of_bundle
from mlguard.audit.run import Adversary, AttackProgress, Audit, audit_target
from mlguard.bundle import Bundle, read_bundle
from mlguard.cli.audit_task import (
    PROCESSES,
    Progress,
    known_split,
    other_split,
    settings_of,
)
from mlguard.data import LabelledSet, name_classes, open_split
from mlguard.errors import RunError
from mlguard.keys import ModelKey
from mlguard.protect.crew import ALONE, Crew
from mlguard.protect.device import DEVICES
from mlguard.recipe import read_recipe, shipped_recipes


@dataclass(frozen=True)
class BundleAuditTask:
    """One audit of a bundle, with everything that can be checked before its key."""

    bundle: Bundle
    data: recipe.Data
    dataset: LabelledSet
    settings: recipe.Audit
    split: str
    adversary: Adversary | None
    device: str
    examples: int
    key_name: str
    data_words: tuple[str, ...]

    @classmethod
    def open(
        cls,
        path: Path,
        folder: Path | None,
        *,
        key_name: str,
        recipe_name: str | None,
        overrides: Sequence[str],
        split: str,
        device: str,
        examples: int,
        incorrect_keys: int | None,
        seed: int | None,
        budget: str | None,
        attacks: str | None,
    ) -> Self:
        """Read the bundle and find the images.

        Args:
            path: The bundle.
            folder: Of the data set.
            key_name: What the owner's keystore calls the key.
            recipe_name: Whose [data] and [audit] hold; None for what the bundle says.
            overrides: Of fields of that recipe.
            split: Which images.
            device: "auto", "cpu" or "cuda".
            examples: How many images the page shows.
            incorrect_keys: In place of the recipe's number.
            seed: In place of the recipe's.
            budget: In place of the recipe's.
            attacks: In place of the recipe's.

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
        if device not in DEVICES:
            raise RunError(f"--device: expected {', '.join(DEVICES)}, got {device!r}")
        bundle = read_bundle(path)
        known, name = known_split(split), bundle.name
        data, audit = data_of(bundle.manifest, name=name), recipe.Audit()
        if recipe_name is not None:
            given = read_recipe(recipe_name, overrides=overrides)
            data, audit = name_classes(given.data, folder), given.audit
        check_data(bundle.manifest, data, name=name)
        settings = settings_of(
            audit,
            incorrect_keys=incorrect_keys,
            seed=seed,
            budget=budget,
            attacks=attacks,
        )
        # The seed of the training, so that held-out images are the same ones.
        training_seed = bundle.manifest.provenance.seed
        adversary = None
        if settings.budget != "none":
            other = other_split(known)
            images = open_split(data, folder, other, seed=training_seed)
            adversary = Adversary(images, other)
        return cls(
            bundle=bundle,
            data=data,
            dataset=open_split(data, folder, known, seed=training_seed),
            settings=settings,
            split=known,
            adversary=adversary,
            device=device,
            examples=examples,
            key_name=key_name,
            data_words=_data_words(recipe_name, overrides),
        )

    @property
    def key_id(self) -> str:
        """The key that the bundle was made for."""
        return self.bundle.manifest.key_id

    @property
    def crew(self) -> Crew:
        """One process."""
        return ALONE

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
        target = target_of_bundle(
            self.bundle,
            key,
            self.data,
            self.settings,
            key_name=self.key_name,
            device=self.device,
            data_words=self.data_words,
        )
        return audit_target(
            target,
            self.dataset,
            split=self.split,
            settings=self.settings,
            adversary=self.adversary,
            examples=self.examples,
            progress=progress,
            attack_progress=attack_progress,
            log=log,
            resume=resume,
        )


def _data_words(name: str | None, overrides: Sequence[str]) -> tuple[str, ...]:
    """How to say it again; a file's path is the reader's own."""
    if name is None:
        return ()
    words = ["--recipe", name if name in shipped_recipes() else "RECIPE"]
    for override in overrides:
        words += ["--set", override]
    return tuple(words)
