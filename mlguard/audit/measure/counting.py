"""Run the models on every image under every condition, and count correct answers.

Images are decoded once for all conditions, and each key's transform is derived once.
Counts go into the log, a part of the images at a time. The module knows nothing of
findings, reports or pages.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlguard.audit.log import AuditLog, Counted, Model, pack
from mlguard.audit.measure.share import dealt, shared
from mlguard.audit.target import AuditTransforms, Subject
from mlguard.data import LabelledSet, Part
from mlguard.models import NO_KEY, Condition, keyed
from mlguard.protect.crew import ALONE, Crew
from mlguard.protect.evaluate import evaluate
from mlguard.tasks import Task
from mlguard.transforms import TransformSet

MAX_PART_CELLS = 1 << 24  # counts of one event: 64 MiB, before they are compressed

Progress = Callable[[int, int], None]  # predictions done, predictions in all


def measure(
    protected: Subject,
    baseline: Subject | None,
    dataset: LabelledSet,
    transforms: AuditTransforms,
    log: AuditLog,
    *,
    progress: Progress = lambda done, total: None,
    crew: Crew = ALONE,
) -> None:
    """Count under every condition what is missing in the log.

    Args:
        protected: The protected model.
        baseline: Its plain twin, if one was trained.
        dataset: Labelled images.
        transforms: The transforms of every key.
        log: The counts so far, and the place for further ones.
        progress: Called with (predictions done, all predictions).
        crew: The processes that share the work.

    Raises:
        DatasetError: An image or a mask is damaged.
        OutputError: The log cannot be written.
    """
    sealed = log.started.conditions.sealed
    tried = [transforms.correct] if sealed else everything_tried(transforms)
    conditions = Tried(tried, protected.device)
    number = len(conditions) + (baseline is not None)
    tally = _Tally(dataset, log, crew, progress, number * len(dataset))
    if baseline is not None:
        tally.count("baseline", baseline, Tried([None], baseline.device))
    tally.count("protected", protected, conditions)


def everything_tried(transforms: AuditTransforms) -> list[TransformSet | None]:
    """What every user of a protected model does, None for a user without a key.

    In the order of the log's conditions.
    """
    nearby = [one for _, neighbours in transforms.nearby for one in neighbours]
    return [None, transforms.correct, *transforms.incorrect, *nearby]


class Tried(Mapping[str, Condition]):
    """Conditions by their number, each made when it is asked for, and not kept.

    The table of one key has 1.75 MiB at 256×256 pixels, and there may be thousands.

    Args:
        tried: What is done under each; None without a key.
        device: Where the model is.
    """

    def __init__(
        self, tried: Sequence[TransformSet | None], device: torch.device
    ) -> None:
        self._tried, self._device = tried, device

    def __getitem__(self, name: str) -> Condition:
        transforms = self._tried[int(name)]
        return NO_KEY if transforms is None else keyed(transforms, self._device)

    def __iter__(self) -> Iterator[str]:
        return map(str, range(len(self._tried)))

    def __len__(self) -> int:
        return len(self._tried)


@dataclass
class _Tally:
    """A counter of models, part by part, with one progress over all of them."""

    dataset: LabelledSet
    log: AuditLog
    crew: Crew
    progress: Progress
    total: int
    done: int = 0

    def count(self, of: Model, subject: Subject, conditions: Tried) -> None:
        """Count every condition, part by part; processes share the parts."""
        length, batch = len(self.dataset), self.log.started.settings.batch
        step = part_size(batch, len(conditions), self.dataset.task)
        spans = [range(n, min(n + step, length)) for n in range(0, length, step)]
        missing = [
            span for span in spans if self.log.counts(of, span.start, len(span)) is None
        ]
        self._advance((len(spans) - len(missing)) * step * len(conditions))
        for own in dealt(self.crew, missing):
            events = [self._event(of, subject, conditions, span) for span in own]
            for event in shared(self.crew, events):
                assert isinstance(event, Counted)
                self.log.add(event)
                self._advance(event.images * len(conditions))

    def _event(
        self,
        of: Model,
        subject: Subject,
        conditions: Tried,
        span: range,
    ) -> Counted:
        """Count some images, and return the event."""
        found = evaluate(
            subject.model,
            Part(self.dataset, span),
            conditions,
            normalization=subject.normalization,
            device=subject.device,
            batch=self.log.started.settings.batch,
            progress=lambda done, _: self.progress(self.done + done, self.total),
            run=subject.run,
            at_once=subject.at_once,
        )
        counts = np.stack([found[name] for name in conditions])
        return Counted(of=of, first=span.start, images=len(span), counts=pack(counts))

    def _advance(self, done: int) -> None:
        self.done = min(self.done + done, self.total)
        self.progress(self.done, self.total)


def part_size(batch: int, conditions: int, task: Task) -> int:
    """Return how many images one event counts: a batch, or fewer if counts are large.

    Example:
        >>> from mlguard.tasks import Segmentation
        >>> part_size(16, 122, Segmentation(21))
        16
        >>> part_size(999, 1000, Segmentation(255))
        21
    """
    return max(1, min(batch, MAX_PART_CELLS // (conditions * math.prod(task.row))))
