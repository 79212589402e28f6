"""From counts of pixels to findings: scores, ratios, and intervals over images.

Everything is computed from integer counts per image and class, summed over the
whole split before any division. Intervals come from redrawing the images; every
condition sees the same draws, so that ratios of conditions are paired. Knows only
arrays.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13
    (the percentile interval).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mlguard import metrics
from mlguard.audit.findings import Findings, IncorrectKeys, Interval, NearbyKeys, Score
from mlguard.errors import DatasetError

REPLICATES = 1000  # redraws of the images
PERCENTILES = (2.5, 97.5)

Counts = NDArray[np.int64]  # (images, classes, 3): intersection, predicted, truth
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NearbyCounts:
    """Counts at one point of the curve of nearby keys.

    Attributes:
        share: Share of the transform's entries that was to change.
        changed: Share that did change.
        counts: One array for each transform tried.
    """

    share: float
    changed: float
    counts: Sequence[Counts]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Counts of every condition, on the same images in the same order.

    Attributes:
        baseline: None where no baseline was trained.
        same_transform: How many incorrect keys give the correct transform.
    """

    baseline: Counts | None
    correct: Counts
    no_key: Counts
    incorrect: Sequence[Counts]
    nearby: Sequence[NearbyCounts]
    same_transform: int

    @property
    def reference(self) -> Counts:
        """What leakage is measured against."""
        return self.correct if self.baseline is None else self.baseline


def find(
    measured: Measured, *, class_names: Sequence[str], key_space_bits: float, seed: int
) -> Findings:
    """Turn the counts of an audit into its findings.

    Args:
        measured: Counts of every condition.
        class_names: One name per class.
        key_space_bits: log2 of the number of distinct transforms.
        seed: Of the redraws. The same seed gives the same intervals.

    Raises:
        DatasetError: No pixel of the split is scored.
    """
    total = measured.correct.sum(0)
    if not total[:, metrics.TRUTH].any():
        raise DatasetError("no pixel of the split is scored: every mask is ignored")
    scale = Scale.of(measured, image_draws(len(measured.correct), seed=seed))
    baseline = measured.baseline
    redrawn = np.stack([scale.redrawn(counts) for counts in measured.incorrect])
    no_key, incorrect = (
        scale.score(measured.no_key),
        _incorrect(measured, scale, redrawn),
    )
    worst = np.maximum(scale.redrawn(measured.no_key), redrawn.max(0))
    fidelity, fidelity_interval = _fidelity(measured, scale)
    return Findings(
        class_names=tuple(class_names),
        class_pixels=tuple(int(pixels) for pixels in total[:, metrics.TRUTH]),
        images=len(measured.correct),
        floor=scale.floor,
        reference="correct" if baseline is None else "baseline",
        baseline=None if baseline is None else scale.score(baseline, authorized=True),
        correct=scale.score(measured.correct, authorized=True),
        no_key=no_key,
        incorrect=incorrect,
        nearby=tuple(_nearby(point) for point in measured.nearby),
        fidelity=fidelity,
        fidelity_interval=fidelity_interval,
        leakage=scale.leakage(max(no_key.miou, incorrect.maximum)),
        leakage_interval=scale.leakage_interval(worst),
        key_space_bits=key_space_bits,
    )


def leakage(unauthorized: Floats, floor: Floats, reference: Floats) -> Floats:
    """How far from the floor (0) to the reference (1), clipped to [0, 1].

    NaN where the reference is not above the floor: there is nothing to leak.
    """
    return np.clip(ratio(unauthorized - floor, reference - floor), 0.0, 1.0)


def image_draws(images: int, *, seed: int, replicates: int = REPLICATES) -> Floats:
    """How often each image is drawn in each replicate.

    Shape:
        returns  (replicates, images), each row sums to `images`
    """
    shares = np.full(images, 1.0 / images)
    draws = np.random.default_rng(seed).multinomial(images, shares, size=replicates)
    return draws.astype(np.float64)


def redraw(counts: Counts, draws: Floats) -> Counts:
    """Totals of every replicate.

    Computed in float64, which is exact for whole numbers below 2**53 pixels.

    Shape:
        counts   (images, classes, 3)
        draws    (replicates, images)
        returns  (replicates, classes, 3)
    """
    totals = draws @ counts.reshape(len(counts), -1).astype(np.float64)
    return totals.astype(np.int64).reshape(len(draws), *counts.shape[1:])


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The two ends that leakage is measured between, and the shared redraws."""

    floor: float
    reference: float
    draws: Floats
    redrawn_floor: Floats
    redrawn_reference: Floats

    @classmethod
    def of(cls, measured: Measured, draws: Floats) -> Self:
        """The scale of an audit, under its redraws."""
        redrawn = redraw(measured.reference, draws)
        return cls(
            floor=metrics.floor_miou(measured.correct.sum(0)),
            reference=miou_of(measured.reference),
            draws=draws,
            redrawn_floor=np.array([metrics.floor_miou(total) for total in redrawn]),
            redrawn_reference=metrics.mean_iou(redrawn),
        )

    def redrawn(self, counts: Counts) -> Floats:
        """Mean IoU in every replicate."""
        return metrics.mean_iou(redraw(counts, self.draws))

    def leakage(self, miou: float) -> float | None:
        """How far from the floor to the reference."""
        ends = np.float64(self.floor), np.float64(self.reference)
        return known(leakage(np.asarray(miou), *map(np.asarray, ends)))

    def leakage_interval(self, redrawn: Floats) -> Interval | None:
        """The interval of the leakage of redrawn mIoU."""
        if self.reference <= self.floor:
            return None
        return interval_of(leakage(redrawn, self.redrawn_floor, self.redrawn_reference))

    def score(self, counts: Counts, *, authorized: bool = False) -> Score:
        """One condition with its interval."""
        total, miou = counts.sum(0), miou_of(counts)
        return Score(
            miou=miou,
            miou_interval=interval_of(self.redrawn(counts)),
            pixel_accuracy=float(metrics.pixel_accuracy(total)),
            class_iou=_class_iou(total),
            of_reference=miou / self.reference if self.reference > 0 else None,
            leakage=None if authorized else self.leakage(miou),
        )


def _incorrect(measured: Measured, scale: Scale, redrawn: Floats) -> IncorrectKeys:
    totals = np.stack([counts.sum(0) for counts in measured.incorrect])
    miou = metrics.mean_iou(totals)
    mean, maximum = float(miou.mean()), float(miou.max())
    return IncorrectKeys(
        miou=tuple(float(value) for value in miou),
        mean=mean,
        mean_interval=interval_of(redrawn.mean(0)),
        standard_deviation=float(miou.std(ddof=1)) if len(miou) > 1 else None,
        maximum=maximum,
        maximum_interval=interval_of(redrawn.max(0)),
        mean_pixel_accuracy=float(metrics.pixel_accuracy(totals).mean()),
        mean_class_iou=_class_iou(totals),
        mean_leakage=scale.leakage(mean),
        maximum_leakage=scale.leakage(maximum),
        same_transform=measured.same_transform,
    )


def _nearby(point: NearbyCounts) -> NearbyKeys:
    miou = tuple(miou_of(counts) for counts in point.counts)
    return NearbyKeys(
        share=point.share,
        changed=point.changed,
        miou=miou,
        mean=float(np.mean(miou)),
        maximum=max(miou),
    )


def _fidelity(
    measured: Measured, scale: Scale
) -> tuple[float, Interval] | tuple[None, None]:
    if measured.baseline is None or scale.reference <= 0:
        return None, None
    redrawn = ratio(scale.redrawn(measured.correct), scale.redrawn_reference)
    return miou_of(measured.correct) / scale.reference, interval_of(redrawn)


def miou_of(counts: Counts) -> float:
    """Mean IoU of counts per image. Shape: (images, classes, 3)."""
    return float(metrics.mean_iou(counts.sum(0)))


def _class_iou(totals: Counts) -> tuple[float | None, ...]:
    """IoU of each class, averaged over leading axes; None where no mask shows it."""
    present = totals[..., metrics.TRUTH] > 0
    iou = np.where(present, metrics.class_iou(totals), np.nan)
    return tuple(known(value) for value in iou.reshape(-1, iou.shape[-1]).mean(0))


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, NaN where `whole` is not above zero."""
    unknown = np.full(np.broadcast(part, whole).shape, np.nan)
    share: Floats = np.divide(part, whole, out=unknown, where=whole > 0)
    return share


def known(value: Floats) -> float | None:
    """A number, or None for NaN."""
    return None if np.isnan(value) else float(value)


def interval_of(values: Floats) -> Interval:
    """Percentiles of the replicates. One that drew only ignored images has none."""
    low, high = np.percentile(values[~np.isnan(values)], PERCENTILES)
    return Interval(low=float(low), high=float(high))
