"""Findings computed from counts: each number checked against one worked out by hand."""

import numpy as np
import pytest

from mlguard import metrics
from mlguard.audit.findings.bootstrap import find, image_draws, leakage
from mlguard.errors import DatasetError
from mlguard.tasks import redraw
from tests.audits import counts, findings, images, measured


def test_scores_are_those_worked_out_by_hand() -> None:
    found = findings()
    # 45 of 50 right in both classes: IoU = 45 / (50 + 50 - 45) = 9 / 11
    assert found.correct.score == pytest.approx(9 / 11)
    assert found.correct.accuracy == pytest.approx(0.9)
    assert found.correct.class_scores == (
        pytest.approx(9 / 11),
        pytest.approx(9 / 11),
        None,
    )
    # The best constant answer: half of the pixels, over two present classes.
    assert found.floor == 0.25
    assert found.fidelity == pytest.approx(9 / 11)


def test_leakage_is_measured_from_the_floor_to_the_baseline() -> None:
    found = findings()
    no_key, best = 25 / 75, 30 / 70
    assert found.no_key.leakage == pytest.approx((no_key - 0.25) / 0.75)
    assert found.incorrect.maximum_leakage == pytest.approx((best - 0.25) / 0.75)
    assert found.reference == "baseline"


def test_the_headline_is_the_worst_of_no_key_and_every_incorrect_key() -> None:
    assert findings().leakage == findings().incorrect.maximum_leakage
    worse_plain = findings(no_key=images(0.8))
    assert worse_plain.leakage == worse_plain.no_key.leakage
    assert worse_plain.leakage > findings().leakage


def test_nearby_keys_are_not_in_the_headline() -> None:
    """Whoever has a nearby key has most of the key already."""
    found = findings()
    assert found.nearby[0].maximum > found.incorrect.maximum
    assert found.leakage == found.incorrect.maximum_leakage


def test_without_a_baseline_the_correct_key_is_the_reference() -> None:
    found = findings(baseline=None)
    assert (found.reference, found.fidelity) == ("correct", None)
    best, reference = 30 / 70, 9 / 11
    assert found.leakage == pytest.approx((best - 0.25) / (reference - 0.25))


def test_what_authorized_users_get_is_not_leakage() -> None:
    assert findings().correct.leakage is None
    assert findings().baseline.leakage is None


def test_incorrect_keys_have_mean_deviation_and_maximum() -> None:
    keys = findings().incorrect
    low, high = 20 / 80, 30 / 70
    assert keys.scores == (pytest.approx(low), pytest.approx(high))
    assert keys.mean == pytest.approx((low + high) / 2)
    assert keys.standard_deviation == pytest.approx((high - low) / np.sqrt(2))
    assert keys.maximum == pytest.approx(high)


def test_one_incorrect_key_has_no_standard_deviation() -> None:
    assert findings(incorrect=[images(0.4)]).incorrect.standard_deviation is None


def test_sums_come_before_divisions() -> None:
    """The mean of the two images' mIoU would be (1 + 1/3) / 2; the field's is 0.6."""
    large, small = counts((30, 30, 30)), counts((15, 15, 45))
    one = np.concatenate([large, small])
    changes = {name: one for name in ("correct", "no_key")}
    found = find(
        measured(baseline=None, incorrect=[one], nearby=[], **changes),
        class_names=("sky",),
        key_space_bits=1.0,
        seed=0,
    )
    assert found.correct.score == pytest.approx(45 / 75)


def test_intervals_of_equal_images_are_points_and_of_unequal_ones_are_not() -> None:
    same = findings().correct.score_interval
    assert same.low == same.high == pytest.approx(9 / 11)
    mixed = np.concatenate([images(1.0, 10), images(0.2, 10)])
    baseline = images(1.0, 20)
    found = findings(
        baseline=baseline, correct=mixed, no_key=mixed, incorrect=[mixed], nearby=[]
    )
    interval = found.correct.score_interval
    assert interval.low < found.correct.score < interval.high


def test_intervals_of_ratios_use_the_same_draws_for_both_models() -> None:
    """Twenty unequal images, and a model that is equal to its baseline on each."""
    mixed = np.concatenate([images(1.0, 10), images(0.2, 10)])
    found = findings(
        baseline=mixed, correct=mixed, no_key=mixed, incorrect=[mixed], nearby=[]
    )
    assert found.fidelity_interval.low == found.fidelity_interval.high == 1.0


def test_the_same_seed_gives_the_same_draws_and_another_does_not() -> None:
    first, again = image_draws(9, seed=3), image_draws(9, seed=3)
    assert (first == again).all()
    assert (first != image_draws(9, seed=4)).any()
    assert (first.sum(1) == 9).all()


def test_redrawing_every_image_once_gives_the_sum() -> None:
    mixed = np.concatenate([images(1.0, 2), images(0.2, 3)])
    (total,) = redraw(mixed, np.ones((1, 5)))
    assert (total == mixed.sum(0)).all()


def test_leakage_is_clipped_and_unknown_where_there_is_nothing_to_leak() -> None:
    below_between_above = np.array([0.1, 0.4, 0.9])
    shares = leakage(below_between_above, np.array(0.2), np.array(0.6))
    assert shares == pytest.approx([0.0, 0.5, 1.0])
    assert np.isnan(leakage(np.array(0.4), np.array(0.5), np.array(0.5)))


def test_a_model_at_the_floor_has_no_leakage_to_report() -> None:
    constant = counts((50, 100, 50), (0, 0, 50), (0, 0, 0))
    found = findings(
        baseline=constant,
        correct=constant,
        no_key=constant,
        incorrect=[constant],
        nearby=[],
    )
    assert found.leakage is None
    assert found.leakage_interval is None


def test_a_class_in_no_mask_is_named_and_left_out() -> None:
    invented = images(1.0)
    invented[:, 2, metrics.PREDICTED] = 10  # predicted, and in no mask
    found = findings(no_key=invented)
    assert found.absent_classes == ("<tiger>",)
    assert found.no_key.class_scores[2] is None
    assert found.no_key.score == 1.0


def test_masks_without_a_scored_pixel_are_refused() -> None:
    nothing = np.zeros((3, 3, 3), dtype=np.int64)
    with pytest.raises(DatasetError, match="no pixel of the split is scored"):
        findings(correct=nothing)
