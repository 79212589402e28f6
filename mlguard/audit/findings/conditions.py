"""The conditions that a protected model runs under, and their order.

The order is: no key, the correct key, the incorrect keys by number, and the nearby keys
point by point. A sealed model has only the correct key. The module knows only arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlguard.audit.findings.numbers import STRICT, NearbyShare, Positive
from mlguard.tasks import Counts, Task


@dataclass(frozen=True, kw_only=True)
class NearbyPoint(NearbyShare):
    """How many transforms are tried at a point of the curve of nearby keys.

    Attributes:
        number: How many.
    """

    __pydantic_config__ = STRICT

    number: Positive


@dataclass(frozen=True, kw_only=True)
class NearbyCounts(NearbyShare):
    """Counts at one point of the curve of nearby keys.

    Attributes:
        counts: One array for each transform tried.
    """

    counts: Sequence[Counts]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Counts of every condition, on the same images in the same order.

    Attributes:
        task: The task, which defines the counts.
        baseline: The baseline's counts; None without a baseline.
        no_key: The counts without a key; None if the model is sealed, which then has no
            incorrect and nearby keys either.
        same_transform: How many incorrect keys give the correct transform.
    """

    task: Task
    baseline: Counts | None
    correct: Counts
    no_key: Counts | None
    incorrect: Sequence[Counts]
    nearby: Sequence[NearbyCounts]
    same_transform: int

    @property
    def reference(self) -> Counts:
        """The reference of leakage."""
        return self.correct if self.baseline is None else self.baseline


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions of an audit.

    Attributes:
        sealed: Whether only the correct key can run the model.
        incorrect: The number of incorrect keys.
        nearby: The curve of nearby keys.
        same_transform: How many incorrect keys give the correct transform.
    """

    sealed: bool
    incorrect: int
    nearby: Sequence[NearbyPoint]
    same_transform: int

    @property
    def number(self) -> int:
        """The number of all conditions."""
        if self.sealed:
            return 1
        return 2 + self.incorrect + sum(point.number for point in self.nearby)

    def measured(
        self, counts: Counts, *, baseline: Counts | None, task: Task
    ) -> Measured:
        """Return the counts of every condition by name.

        Shape:
            counts    (conditions, images, …)
            baseline  (images, …)
        """
        waiting = iter(counts)
        no_key = None if self.sealed else next(waiting)
        correct = next(waiting)
        tried = 0 if self.sealed else self.incorrect
        incorrect = [next(waiting) for _ in range(tried)]
        curve = () if self.sealed else self.nearby
        nearby = [
            NearbyCounts(
                share=point.share,
                changed=point.changed,
                counts=[next(waiting) for _ in range(point.number)],
            )
            for point in curve
        ]
        return Measured(
            task=task,
            baseline=baseline,
            correct=correct,
            no_key=no_key,
            incorrect=incorrect,
            nearby=nearby,
            same_transform=self.same_transform,
        )
