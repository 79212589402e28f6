"""From counts to findings: scores, ratios, and intervals over images.

Everything is computed from integer counts per image, summed over the whole split before
any division; the task defines counts and scores. Intervals come from redrawing the
images; every condition sees the same draws, so that ratios of conditions are paired.
The module knows only arrays.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13
    (the percentile interval).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mlguard import metrics
from mlguard.audit.findings.conditions import Measured, NearbyCounts
from mlguard.audit.findings.numbers import (
    OPENED,
    SEALED,
    Findings,
    IncorrectKeys,
    Interval,
    NearbyKeys,
    NotShown,
    Score,
    leakage_of,
)
from mlguard.errors import DatasetError
from mlguard.tasks import Counts, Floats, Task, Totals

REPLICATES = 1000  # redraws of the images
PERCENTILES = (2.5, 97.5)


def find(
    measured: Measured, *, class_names: Sequence[str], key_space_bits: float, seed: int
) -> Findings:
    """Turn the counts of an audit into its findings.

    Args:
        measured: The counts of every condition.
        class_names: One name per class.
        key_space_bits: log2 of the number of distinct transforms, without those that
            the weights reveal.
        seed: The seed of the redraws. The same seed gives the same intervals.

    Raises:
        DatasetError: No pixel of the split is scored.
    """
    task = measured.task
    total = task.total(measured.correct)
    if not total[:, metrics.TRUTH].any():
        raise DatasetError("no pixel of the split is scored: every mask is ignored")
    scale = Yardstick.of(measured, image_draws(len(measured.correct), seed=seed))
    baseline = measured.baseline
    fidelity, fidelity_interval = _fidelity(measured, scale)
    unauthorized = _unauthorized(measured, scale)
    return Findings(
        task=task.name,
        class_names=tuple(class_names),
        class_counts=tuple(int(number) for number in total[:, metrics.TRUTH]),
        images=len(measured.correct),
        floor=scale.floor,
        reference="correct" if baseline is None else "baseline",
        baseline=None if baseline is None else scale.score(baseline, authorized=True),
        correct=scale.score(measured.correct, authorized=True),
        no_key=unauthorized.no_key,
        incorrect=unauthorized.incorrect,
        nearby=tuple(_nearby(point, task) for point in measured.nearby),
        fidelity=fidelity,
        fidelity_interval=fidelity_interval,
        leakage=unauthorized.leakage,
        leakage_interval=unauthorized.interval,
        key_space_bits=key_space_bits,
        not_run=unauthorized.not_run,
    )


def leakage(unauthorized: Floats, floor: Floats, reference: Floats) -> Floats:
    """Return how far a score is from the floor (0) to the reference (1), clipped.

    It is NaN if the reference is not above the floor: there is nothing to leak.
    """
    return np.clip(ratio(unauthorized - floor, reference - floor), 0.0, 1.0)


def image_draws(images: int, *, seed: int, replicates: int = REPLICATES) -> Floats:
    """Return how often each image is drawn in each replicate.

    Shape:
        returns  (replicates, images), each row sums to `images`
    """
    shares = np.full(images, 1.0 / images)
    draws = np.random.default_rng(seed).multinomial(images, shares, size=replicates)
    return draws.astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """The two ends of the leakage scale, and the redraws that all conditions share."""

    task: Task
    floor: float
    reference: float
    draws: Floats
    redrawn_floor: Floats
    redrawn_reference: Floats

    @classmethod
    def of(cls, measured: Measured, draws: Floats) -> Self:
        """Return the yardstick of an audit, under its redraws."""
        task, reference = measured.task, measured.reference
        return cls(
            task=task,
            floor=task.floor(task.total(measured.correct)),
            reference=task.score_of(reference),
            draws=draws,
            redrawn_floor=task.redrawn_floors(reference, draws),
            redrawn_reference=task.redrawn_scores(reference, draws),
        )

    def redrawn(self, counts: Counts) -> Floats:
        """Return the score in every replicate."""
        return self.task.redrawn_scores(counts, self.draws)

    def leakage(self, score: float) -> float | None:
        """Return how far a score is from the floor to the reference."""
        return leakage_of(score, self.floor, self.reference)

    def leakage_interval(self, redrawn: Floats) -> Interval | None:
        """Return the interval of the leakage of redrawn scores."""
        if self.reference <= self.floor:
            return None
        return interval_of(leakage(redrawn, self.redrawn_floor, self.redrawn_reference))

    def score(self, counts: Counts, *, authorized: bool = False) -> Score:
        """Return one condition with its interval."""
        total = self.task.total(counts)
        score = float(self.task.score(total))
        return Score(
            score=score,
            score_interval=interval_of(self.redrawn(counts)),
            accuracy=float(metrics.accuracy(total)),
            class_scores=_class_scores(self.task, total),
            of_reference=score / self.reference if self.reference > 0 else None,
            leakage=None if authorized else self.leakage(score),
        )


@dataclass(frozen=True)
class _Unauthorized:
    """The findings about users without the key; empty if the model is sealed."""

    no_key: Score | None = None
    incorrect: IncorrectKeys | None = None
    leakage: float | None = None
    interval: Interval | None = None
    not_run: tuple[NotShown, ...] = ()


def _unauthorized(measured: Measured, scale: Yardstick) -> _Unauthorized:
    if measured.no_key is None:
        left_out = (
            NotShown(condition="no key", message=SEALED),
            NotShown(condition="incorrect keys", message=SEALED),
            NotShown(condition="nearby keys", message=SEALED),
        )
        return _Unauthorized(not_run=left_out)
    no_key = scale.score(measured.no_key)
    if not measured.incorrect:
        interval = scale.leakage_interval(scale.redrawn(measured.no_key))
        same = (
            NotShown(condition="incorrect keys", message=OPENED),
            NotShown(condition="nearby keys", message=OPENED),
        )
        return _Unauthorized(no_key, None, no_key.leakage, interval, same)
    redrawn = np.stack([scale.redrawn(counts) for counts in measured.incorrect])
    incorrect = _incorrect(measured, scale, redrawn)
    worst = np.maximum(scale.redrawn(measured.no_key), redrawn.max(0))
    return _Unauthorized(
        no_key,
        incorrect,
        scale.leakage(max(no_key.score, incorrect.maximum)),
        scale.leakage_interval(worst),
    )


def _incorrect(measured: Measured, scale: Yardstick, redrawn: Floats) -> IncorrectKeys:
    task = scale.task
    totals = np.stack([task.total(counts) for counts in measured.incorrect])
    scores = task.score(totals)
    mean, maximum = float(scores.mean()), float(scores.max())
    return IncorrectKeys(
        scores=tuple(float(value) for value in scores),
        mean=mean,
        mean_interval=interval_of(redrawn.mean(0)),
        standard_deviation=float(scores.std(ddof=1)) if len(scores) > 1 else None,
        maximum=maximum,
        maximum_interval=interval_of(redrawn.max(0)),
        mean_accuracy=float(metrics.accuracy(totals).mean()),
        mean_class_scores=_class_scores(task, totals),
        mean_leakage=scale.leakage(mean),
        maximum_leakage=scale.leakage(maximum),
        same_transform=measured.same_transform,
    )


def _nearby(point: NearbyCounts, task: Task) -> NearbyKeys:
    scores = tuple(task.score_of(counts) for counts in point.counts)
    return NearbyKeys(
        share=point.share,
        changed=point.changed,
        scores=scores,
        mean=float(np.mean(scores)),
        maximum=max(scores),
    )


def _fidelity(
    measured: Measured, scale: Yardstick
) -> tuple[float, Interval] | tuple[None, None]:
    if measured.baseline is None or scale.reference <= 0:
        return None, None
    redrawn = ratio(scale.redrawn(measured.correct), scale.redrawn_reference)
    correct = scale.task.score_of(measured.correct)
    return correct / scale.reference, interval_of(redrawn)


def _class_scores(task: Task, totals: Totals) -> tuple[float | None, ...]:
    """Return the score of each class, averaged over leading axes, or None."""
    present = totals[..., metrics.TRUTH] > 0
    scores = np.where(present, task.class_scores(totals), np.nan)
    scores = scores.reshape(-1, scores.shape[-1]).mean(0)
    return tuple(known(value) for value in scores)


def ratio(part: Floats, whole: Floats) -> Floats:
    """Return `part / whole`; NaN if `whole` is not above zero."""
    unknown = np.full(np.broadcast(part, whole).shape, np.nan)
    share: Floats = np.divide(part, whole, out=unknown, where=whole > 0)
    return share


def known(value: Floats) -> float | None:
    """Return a number, or None for NaN."""
    return None if np.isnan(value) else float(value)


def interval_of(values: Floats) -> Interval:
    """Return percentiles of the replicates, without those of only ignored images."""
    low, high = np.percentile(values[~np.isnan(values)], PERCENTILES)
    return Interval(low=float(low), high=float(high))
