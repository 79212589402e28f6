"""Show every image to the models under every condition, and count what is right.

Images are decoded once for all conditions, and each key's transform is derived once.
Knows nothing of findings, reports or pages; gives counts and predictions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mlguard import recipe
from mlguard.audit.incorrect import incorrect_transforms
from mlguard.audit.nearby import changed_share, nearby, same
from mlguard.audit.statistics import Measured, NearbyCounts
from mlguard.data import SegmentationSet
from mlguard.keys import ModelSubkeys
from mlguard.models import NO_KEY as NOTHING_DONE
from mlguard.models import Condition, Normalization, keyed, normalization_of
from mlguard.protect.evaluate import evaluate
from mlguard.protect.run import Run
from mlguard.tasks import Counts
from mlguard.transforms import TransformSet

CORRECT, NO_KEY = "correct key", "no key"

Progress = Callable[[int, int], None]  # predictions done, predictions in all


@dataclass(frozen=True)
class AuditTransforms:
    """What every key of an audit does to an image. Key material: never written.

    Attributes:
        correct: The model's own.
        incorrect: One for each incorrect key.
        nearby: For each share, transforms that differ from the correct one by it.
    """

    correct: TransformSet
    incorrect: Sequence[TransformSet]
    nearby: Sequence[tuple[float, Sequence[TransformSet]]]

    @classmethod
    def derive(
        cls,
        correct: TransformSet,
        derive: Callable[[ModelSubkeys], TransformSet],
        subkeys: ModelSubkeys,
        settings: recipe.Audit,
    ) -> "AuditTransforms":
        """Derive them all; the same seed gives the same ones."""
        seed = settings.seed
        incorrect = incorrect_transforms(
            derive, subkeys, seed=seed, number=settings.incorrect_keys
        )
        curve = []
        for share in sorted(set(settings.nearby)):
            uses = [
                f"audit/seed={seed}/nearby={share}/{index}"
                for index in range(settings.nearby_keys)
            ]
            neighbours = [
                nearby(correct, share, subkeys=subkeys, use=use) for use in uses
            ]
            curve.append((share, neighbours))
        return cls(correct, incorrect, curve)

    @property
    def same_transform(self) -> int:
        """How many incorrect keys give the correct transform."""
        return sum(same(self.correct, transform) for transform in self.incorrect)

    def changed(self, transforms: Sequence[TransformSet]) -> float:
        """Mean share of the entries in which transforms differ from the correct one."""
        shares = [changed_share(self.correct, transform) for transform in transforms]
        return float(np.mean(shares))


@dataclass(frozen=True)
class Subject:
    """A model in eval mode on its device, and how its images are normalized."""

    model: nn.Module
    normalization: Normalization
    device: torch.device

    @classmethod
    def load(cls, run: Run, device: torch.device) -> "Subject":
        """Load the model of a run.

        Raises:
            MalformedRun: The weights are missing, damaged or of another model.
        """
        normalization = normalization_of(run.recipe.model)
        return cls(run.load_model().to(device), normalization, device)


def measure(
    protected: Subject,
    baseline: Subject | None,
    dataset: SegmentationSet,
    transforms: AuditTransforms,
    *,
    batch: int,
    progress: Progress | None = None,
) -> Measured:
    """Count under every condition.

    Args:
        protected: The protected model.
        baseline: Its plain twin, if one was trained.
        dataset: Labelled images.
        transforms: What every key does.
        batch: Images at a time.
        progress: Called with (predictions done, all predictions).

    Raises:
        DatasetError: An image or a mask is damaged.
    """
    conditions = conditions_of(transforms, protected.device)
    tally = _Tally(dataset, batch, progress, len(conditions) + (baseline is not None))
    plain_counts = (
        None
        if baseline is None
        else tally.count(baseline, {NO_KEY: NOTHING_DONE})[NO_KEY]
    )
    counts = tally.count(protected, conditions)
    return Measured(
        task=dataset.task,
        baseline=plain_counts,
        correct=counts[CORRECT],
        no_key=counts[NO_KEY],
        incorrect=[
            counts[incorrect_name(index)] for index in range(len(transforms.incorrect))
        ],
        nearby=[
            NearbyCounts(
                share=share,
                changed=transforms.changed(neighbours),
                counts=[counts[_nearby_name(share, i)] for i in range(len(neighbours))],
            )
            for share, neighbours in transforms.nearby
        ],
        same_transform=transforms.same_transform,
    )


def conditions_of(
    transforms: AuditTransforms, device: torch.device
) -> dict[str, Condition]:
    """Every condition of the protected model, by name."""
    named: dict[str, TransformSet] = {CORRECT: transforms.correct}
    for index, transform in enumerate(transforms.incorrect):
        named[incorrect_name(index)] = transform
    for share, neighbours in transforms.nearby:
        for index, transform in enumerate(neighbours):
            named[_nearby_name(share, index)] = transform
    conditions = {name: keyed(one, device) for name, one in named.items()}
    return {NO_KEY: NOTHING_DONE, **conditions}


def incorrect_name(index: int) -> str:
    """The condition of one incorrect key."""
    return f"incorrect key {index}"


def _nearby_name(share: float, index: int) -> str:
    return f"nearby {share} {index}"


class _Tally:
    """Count models on one data set, with one progress over all of them."""

    def __init__(
        self,
        dataset: SegmentationSet,
        batch: int,
        progress: Progress | None,
        conditions: int,
    ) -> None:
        self._dataset, self._batch, self._progress = dataset, batch, progress
        self._done, self._total = 0, conditions * len(dataset)

    def count(
        self, subject: Subject, conditions: dict[str, Condition]
    ) -> dict[str, Counts]:
        counts = evaluate(
            subject.model,
            self._dataset,
            conditions,
            normalization=subject.normalization,
            device=subject.device,
            batch=self._batch,
            progress=self._report,
        )
        self._done += len(self._dataset) * len(conditions)
        return counts

    def _report(self, done: int, _: int) -> None:
        if self._progress is not None:
            self._progress(self._done + done, self._total)
