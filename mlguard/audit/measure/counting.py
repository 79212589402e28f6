"""Show every image to the models under every condition, and count what is right.

Images are decoded once for all conditions, and each key's transform is derived once.
Knows nothing of findings, reports or pages; gives counts and predictions.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from mlguard.audit.findings import Measured, NearbyCounts
from mlguard.audit.log import AuditLog, Counted, pack, unpack
from mlguard.audit.log import Model as ModelName
from mlguard.audit.measure.share import shared
from mlguard.audit.target import AuditTransforms, Subject
from mlguard.data import LabelledSet, Part
from mlguard.models import NO_KEY as NOTHING_DONE
from mlguard.models import (
    Condition,
    keyed,
)
from mlguard.protect.crew import ALONE, Crew
from mlguard.protect.evaluate import Runs, evaluate
from mlguard.tasks import Counts, Task
from mlguard.transforms import TransformSet

CORRECT, NO_KEY = "correct key", "no key"
MAX_PART_CELLS = 1 << 24  # counts of one event: 64 MiB, before they are compressed

Progress = Callable[[int, int], None]  # predictions done, predictions in all


def measure(
    protected: Subject,
    baseline: Subject | None,
    dataset: LabelledSet,
    transforms: AuditTransforms,
    *,
    batch: int,
    progress: Progress | None = None,
    log: AuditLog | None = None,
    crew: Crew = ALONE,
    sealed: bool = False,
) -> Measured:
    """Count under every condition.

    Args:
        protected: The protected model.
        baseline: Its plain twin, if one was trained.
        dataset: Labelled images.
        transforms: What every key does.
        batch: Images at a time.
        progress: Called with (predictions done, all predictions).
        log: What is counted already, and where every further part goes.
        crew: The processes that share the work; each gets all of the counts.
        sealed: Only the correct key can run the model; `transforms` has no other.

    Raises:
        DatasetError: An image or a mask is damaged.
        OutputError: The log cannot be written.
    """
    conditions = conditions_of(transforms, protected.device)
    if sealed:
        conditions = {CORRECT: conditions[CORRECT]}
    number = len(conditions) + (baseline is not None)
    tally = _Tally(dataset, batch, progress, number, log, crew)
    plain_counts = (
        None
        if baseline is None
        else tally.count("baseline", baseline, {NO_KEY: NOTHING_DONE})[NO_KEY]
    )
    counts = tally.count("protected", protected, conditions)
    return Measured(
        task=dataset.task,
        baseline=plain_counts,
        correct=counts[CORRECT],
        no_key=counts.get(NO_KEY),
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
    """Count models part by part, with one progress over all of them."""

    def __init__(
        self,
        dataset: LabelledSet,
        batch: int,
        progress: Progress | None,
        conditions: int,
        log: AuditLog | None,
        crew: Crew,
    ) -> None:
        self._dataset, self._batch, self._progress = dataset, batch, progress
        self._done, self._total = 0, conditions * len(dataset)
        self._log, self._crew = log, crew

    def count(
        self, of: ModelName, subject: Subject, conditions: dict[str, Condition]
    ) -> dict[str, Counts]:
        """Every condition, a part of the images at a time, each process its own."""
        length = len(self._dataset)
        step = part_size(self._batch, len(conditions), self._dataset.task)
        runs = subject.runs(conditions.values())
        spans = [range(n, min(n + step, length)) for n in range(0, length, step)]
        found = {span.start: self._known(of, span) for span in spans}
        missing = [span for span in spans if found[span.start] is None]
        self._advance((len(spans) - len(missing)) * step * len(conditions))
        for start in range(0, len(missing), self._crew.size):
            some = missing[start : start + self._crew.size]
            own = some[self._crew.rank : self._crew.rank + 1]
            events = [self._event(of, subject, conditions, runs, span) for span in own]
            for event in shared(self._crew, events):
                assert isinstance(event, Counted)
                shape = (len(conditions), event.images, *self._dataset.task.row)
                found[event.first] = unpack(event.counts, shape)
                if self._log is not None:
                    self._log.add(event)
                self._advance(event.images * len(conditions))
        parts = [counts for counts in found.values() if counts is not None]
        return dict(zip(conditions, np.concatenate(parts, axis=1), strict=True))

    def _known(self, of: ModelName, span: range) -> Counts | None:
        return self._log.counts(of, span.start, len(span)) if self._log else None

    def _event(
        self,
        of: ModelName,
        subject: Subject,
        conditions: dict[str, Condition],
        runs: Runs,
        span: range,
    ) -> Counted:
        """Count some images."""
        found = evaluate(
            subject.model,
            Part(self._dataset, span),
            conditions,
            normalization=subject.normalization,
            device=subject.device,
            batch=self._batch,
            progress=lambda done, _: self._report(done),
            run=runs,
        )
        counts = np.stack([found[name] for name in conditions])
        return Counted(of=of, first=span.start, images=len(span), counts=pack(counts))

    def _advance(self, done: int) -> None:
        self._done = min(self._done + done, self._total)
        self._report(0)

    def _report(self, done: int) -> None:
        if self._progress is not None:
            self._progress(self._done + done, self._total)


def part_size(batch: int, conditions: int, task: Task) -> int:
    """Images that are counted between two events: a batch, or fewer if they count much.

    Example:
        >>> from mlguard.tasks import Segmentation
        >>> part_size(16, 122, Segmentation(21))
        16
        >>> part_size(999, 1000, Segmentation(255))
        21
    """
    return max(1, min(batch, MAX_PART_CELLS // (conditions * math.prod(task.row))))
