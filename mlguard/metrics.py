"""Mean intersection over union, and accuracy, from counts over a whole set of images.

The field's mIoU comes from sums of counts, not from averages of per-image or per-batch
IoU. The module knows only arrays; a model's task chooses its score (tasks.py).

Source: Everingham et al. 2015, "The PASCAL Visual Object Classes Challenge: A
    Retrospective", section 4.1.2 (segmentation accuracy).
"""

import numpy as np
from numpy.typing import NDArray

INTERSECTION, PREDICTED, TRUTH = range(3)  # the last axis of counts


def confusion(
    predictions: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    *,
    classes: int,
    ignore_index: int,
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class, one matrix per image.

    Shape:
        predictions  (N, H, W) uint8, class ids in 0 … classes-1
        masks        (N, H, W) uint8, class ids or `ignore_index`
        returns      (N, classes, classes) int64, rows are the truth
    """
    number = len(masks)
    image = np.arange(number, dtype=np.int64)[:, None, None]
    cell = (image * classes + masks) * classes + predictions
    scored = masks != ignore_index
    cells = number * classes * classes
    return np.bincount(cell[scored], minlength=cells).reshape(number, classes, classes)


def counts(confusions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return intersection, predicted and true pixels of every class.

    Shape:
        confusions  (…, classes, classes) int64
        returns     (…, classes, 3) int64
    """
    intersection = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([intersection, confusions.sum(-2), confusions.sum(-1)], axis=-1)


def class_iou(totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU of every class; NaN if it is neither present nor predicted.

    Shape:
        totals   (…, classes, 3) int64, summed over the images
        returns  (…, classes) float64 in [0, 1]
    """
    intersection = totals[..., INTERSECTION].astype(np.float64)
    union = totals[..., PREDICTED] + totals[..., TRUTH] - totals[..., INTERSECTION]
    return _divide(intersection, union)


def mean_iou(totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean IoU over the classes that occur in the truth.

    A class that no mask shows is left out, whether or not it was predicted: otherwise
    the score would depend on a class about which the data say nothing.

    Shape:
        totals   (…, classes, 3) int64
        returns  (…) float64 in [0, 1]. NaN when no pixel is scored.
    """
    present = totals[..., TRUTH] > 0
    iou = np.where(present, class_iou(totals), 0.0)
    number = present.sum(-1)
    return _divide(iou.sum(-1), number)


def accuracy(totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of scored pixels, or images, that are correct; NaN if none is.

    Shape:
        totals   (…, classes, 3) int64
        returns  (…) float64 in [0, 1]
    """
    right = totals[..., INTERSECTION].sum(-1).astype(np.float64)
    scored = totals[..., TRUTH].sum(-1)
    return _divide(right, scored)


def class_recall(totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of each class's pixels, or images, that are correct, or NaN.

    Shape:
        totals   (…, classes, 3) int64
        returns  (…, classes) float64 in [0, 1]
    """
    right = totals[..., INTERSECTION].astype(np.float64)
    return _divide(right, totals[..., TRUTH])


def floor_accuracy(totals: NDArray[np.int64]) -> float:
    """Return the accuracy of the best constant answer: the most frequent class's share.

    Shape:
        totals  (classes, 3) int64
    """
    truth = totals[..., TRUTH].astype(np.float64)
    return float(truth.max() / truth.sum()) if truth.any() else float("nan")


def floor_miou(totals: NDArray[np.int64]) -> float:
    """Return the mean IoU of the best constant answer, that of an ignorant model.

    Answering class c everywhere has IoU share(c) for c and 0 for every other class.

    Shape:
        totals  (classes, 3) int64
    """
    truth = totals[..., TRUTH].astype(np.float64)
    present = int((truth > 0).sum())
    return float(truth.max() / truth.sum() / present) if present else float("nan")


def _divide(part: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide; NaN where the whole is 0."""
    share: NDArray[np.float64] = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share
