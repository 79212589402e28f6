"""mIoU from counts over a whole set, against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlguard import metrics

VOID = 9


def totals(predictions: list[int], masks: list[int], classes: int) -> np.ndarray:
    shape = (1, 1, len(masks))
    found = metrics.confusion(
        np.array(predictions, np.uint8).reshape(shape),
        np.array(masks, np.uint8).reshape(shape),
        classes=classes,
        ignore_index=VOID,
    )
    return metrics.counts(found).sum(0)


def test_iou_of_a_case_small_enough_to_count() -> None:
    found = totals([0, 0, 1, 1], [0, 1, 1, 1], classes=2)
    assert metrics.class_iou(found).tolist() == [1 / 2, 2 / 3]
    assert metrics.mean_iou(found) == pytest.approx(7 / 12)
    assert metrics.accuracy(found) == 3 / 4


def test_ignored_pixels_count_nowhere() -> None:
    with_void = totals([0, 1, 1], [0, 1, VOID], classes=2)
    assert with_void.tolist() == totals([0, 1], [0, 1], classes=2).tolist()


def test_class_that_no_mask_shows_is_left_out_of_the_mean() -> None:
    found = totals([0, 0, 2, 1], [0, 0, 0, 1], classes=4)
    iou = metrics.class_iou(found)
    assert np.isnan(iou[3])  # neither shown nor predicted
    assert iou[2] == 0.0  # predicted only
    assert metrics.mean_iou(found) == pytest.approx((2 / 3 + 1) / 2)


def test_no_scored_pixel_gives_nan_and_no_warning() -> None:
    found = totals([0, 0], [VOID, VOID], classes=2)
    assert np.isnan(metrics.mean_iou(found))
    assert np.isnan(metrics.accuracy(found))
    assert np.isnan(metrics.floor_miou(found))


def test_mean_of_image_scores_is_not_what_is_computed() -> None:
    one, other = totals([0], [0], 2), totals([0, 0, 0], [1, 1, 0], 2)
    pooled = metrics.mean_iou(one + other)
    assert pooled == pytest.approx((2 / 4 + 0) / 2)
    assert pooled != (metrics.mean_iou(one) + metrics.mean_iou(other)) / 2


def test_floor_is_the_best_constant_answer() -> None:
    masks = [0, 0, 0, 1, 2]
    best = max(
        float(metrics.mean_iou(totals([answer] * 5, masks, 3))) for answer in range(3)
    )
    assert metrics.floor_miou(totals([0] * 5, masks, 3)) == pytest.approx(best)


@given(
    arrays.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3)),
    arrays.arrays(np.uint8, (2, 3, 4), elements=st.sampled_from([0, 1, 2, 3, VOID])),
)
def test_confusion_counts_every_scored_pixel_once(
    predictions: np.ndarray, masks: np.ndarray
) -> None:
    found = metrics.confusion(predictions, masks, classes=4, ignore_index=VOID)
    assert found.shape == (2, 4, 4)
    assert found.sum() == (masks != VOID).sum()
    for truth in range(4):
        for answer in range(4):
            pixels = (masks == truth) & (predictions == answer)
            assert found[:, truth, answer].tolist() == pixels.sum((1, 2)).tolist()
