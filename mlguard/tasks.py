"""The task of a model: a class for every pixel, or one class for the image.

A task counts answers, image by image, and scores the counts. Training, audit and
reports all use the task, so that a score has its proper name: mIoU of a segmentation,
top-1 accuracy of a classification. The module knows only arrays and names.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlguard import metrics
from mlguard.rules import TaskName

NO_LABEL = -1  # an image of a classification always has a class, never this number
SCORE_NAMES: dict[TaskName, str] = {
    "segmentation": "mIoU",
    "classification": "accuracy",
}

Counts = NDArray[np.int64]  # one row per image; the task defines its contents
Totals = NDArray[np.int64]  # (…, classes, 3): intersection, predicted, truth
Floats = NDArray[np.float64]
Classes = NDArray[Any]  # class ids: (N, H, W), or (N,) for a classification


@dataclass(frozen=True)
class Task(ABC):
    """How answers are counted and scored.

    Attributes:
        classes: Number of classes K, without the ignored one.
        ignore_index: The value of pixels without a label.
    """

    name: ClassVar[TaskName]
    classes: int
    ignore_index: int

    @property
    def score_name(self) -> str:
        """The name of the score in every report."""
        return SCORE_NAMES[self.name]

    @property
    @abstractmethod
    def row(self) -> tuple[int, ...]:
        """The shape of one image's counts."""

    @property
    @abstractmethod
    def limit(self) -> int:
        """An upper bound, exclusive, of every number in a count."""

    @abstractmethod
    def count(self, answers: Classes, truth: Classes) -> Counts:
        """Count correct answers, one row per image."""

    @abstractmethod
    def total(self, counts: Counts) -> Totals:
        """Return intersection, predicted and truth. Shape: (classes, 3)."""

    @abstractmethod
    def shown(self, counts: Counts) -> NDArray[np.bool_]:
        """Return which classes each image shows. Shape: (images, classes)."""

    @abstractmethod
    def score(self, totals: Totals) -> Floats:
        """Return the score of totals, in [0, 1]; NaN if nothing is scored."""

    @abstractmethod
    def class_scores(self, totals: Totals) -> Floats:
        """Return the score of each class; NaN for a class that does not occur."""

    @abstractmethod
    def floor(self, totals: Totals) -> float:
        """Return the score of the best constant answer, that of an ignorant model."""

    @abstractmethod
    def redrawn_scores(self, counts: Counts, draws: Floats) -> Floats:
        """Return the scores of replicates, whose rows of `draws` weight the images.

        Shape:
            draws    (replicates, images)
            returns  (replicates,)
        """

    @abstractmethod
    def redrawn_floors(self, counts: Counts, draws: Floats) -> Floats:
        """Return the floors of replicates, as in `redrawn_scores`."""

    def score_of(self, counts: Counts) -> float:
        """Return the score of a whole set of images."""
        return float(self.score(self.total(counts)))


@dataclass(frozen=True)
class Segmentation(Task):
    """A class for every pixel, scored by mIoU.

    Counts are (images, classes, 3): intersection, predicted and true pixels.
    """

    name = "segmentation"
    ignore_index: int = 255

    @property
    def row(self) -> tuple[int, ...]:
        """Intersection, predicted and truth of every class."""
        return (self.classes, 3)

    @property
    def limit(self) -> int:
        """More pixels than an image can have."""
        return 1 << 31

    def count(self, answers: Classes, truth: Classes) -> Counts:
        """Count pixels. Shape: (N, H, W) both."""
        confusions = metrics.confusion(
            answers, truth, classes=self.classes, ignore_index=self.ignore_index
        )
        return metrics.counts(confusions)

    def total(self, counts: Counts) -> Totals:
        """Sum over the images."""
        total: Totals = counts.sum(0)
        return total

    def shown(self, counts: Counts) -> NDArray[np.bool_]:
        """Return which classes have a pixel in each mask."""
        return np.asarray(counts[..., metrics.TRUTH] > 0)

    def score(self, totals: Totals) -> Floats:
        """Return the mean IoU over the classes that occur in the masks."""
        return metrics.mean_iou(totals)

    def class_scores(self, totals: Totals) -> Floats:
        """Return the IoU of each class."""
        return metrics.class_iou(totals)

    def floor(self, totals: Totals) -> float:
        """Return the mean IoU of the best constant mask."""
        return metrics.floor_miou(totals)

    def redrawn_scores(self, counts: Counts, draws: Floats) -> Floats:
        """Return the mean IoU of each replicate."""
        return metrics.mean_iou(redraw(counts, draws))

    def redrawn_floors(self, counts: Counts, draws: Floats) -> Floats:
        """Return the floor of each replicate."""
        floors = [metrics.floor_miou(total) for total in redraw(counts, draws)]
        return np.array(floors)


@dataclass(frozen=True)
class Classification(Task):
    """One class for the image, scored by top-1 accuracy.

    Counts are (images, 2), the true class and the one answered: a row of every class,
    as a segmentation has, would be a thousand times as large for ImageNet.
    """

    name = "classification"
    ignore_index: int = NO_LABEL

    @property
    def row(self) -> tuple[int, ...]:
        """The true class and the one answered."""
        return (2,)

    @property
    def limit(self) -> int:
        """One more than the last class."""
        return self.classes

    def count(self, answers: Classes, truth: Classes) -> Counts:
        """Pair truth and answer. Shape: (N,) both."""
        return np.stack([truth, answers], axis=-1).astype(np.int64)

    def total(self, counts: Counts) -> Totals:
        """Return how many images of each class are correct, answered, and true."""
        truth, answers = counts[:, 0], counts[:, 1]
        parts = (truth[truth == answers], answers, truth)
        numbers = [np.bincount(part, minlength=self.classes) for part in parts]
        return np.stack(numbers, axis=-1).astype(np.int64)

    def shown(self, counts: Counts) -> NDArray[np.bool_]:
        """Return the one class of each image."""
        return np.asarray(counts[:, :1] == np.arange(self.classes))

    def score(self, totals: Totals) -> Floats:
        """Return the share of images whose class is correct."""
        return metrics.accuracy(totals)

    def class_scores(self, totals: Totals) -> Floats:
        """Return the share of each class's images that are correct."""
        return metrics.class_recall(totals)

    def floor(self, totals: Totals) -> float:
        """Return the share of the most frequent class."""
        return metrics.floor_accuracy(totals)

    def redrawn_scores(self, counts: Counts, draws: Floats) -> Floats:
        """Return the accuracy of each replicate."""
        right = counts[:, 0] == counts[:, 1]
        share: Floats = (draws @ right.astype(np.float64)) / draws.sum(1)
        return share

    def redrawn_floors(self, counts: Counts, draws: Floats) -> Floats:
        """Return the share of the most frequent class in each replicate."""
        truth = counts[:, 0]
        most = [np.bincount(truth, weights=draw).max() for draw in draws]
        floors: Floats = np.array(most) / draws.sum(1)
        return floors


def task_of(name: TaskName, *, classes: int, ignore_index: int) -> Task:
    """Return the task of a name. A classification ignores nothing."""
    if name == "classification":
        return Classification(classes)
    return Segmentation(classes, ignore_index)


def redraw(counts: Counts, draws: Floats) -> Totals:
    """Return the totals of every replicate of a segmentation.

    They are computed in float64, which is exact below 2**53 pixels.

    Shape:
        counts   (images, classes, 3)
        draws    (replicates, images)
        returns  (replicates, classes, 3)
    """
    totals = draws @ counts.reshape(len(counts), -1).astype(np.float64)
    return totals.astype(np.int64).reshape(len(draws), *counts.shape[1:])
