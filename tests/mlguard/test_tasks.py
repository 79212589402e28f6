"""What each task counts, and how it scores the counts, against cases worked by hand."""

import numpy as np
import pytest

from mlguard.tasks import NO_LABEL, Classification, Segmentation, Task, task_of

TRUTH = np.array([0, 0, 0, 1, 2])
ANSWERS = np.array([0, 0, 1, 1, 0])


def classified() -> tuple[Task, np.ndarray]:
    task = Classification(4)
    return task, task.count(ANSWERS, TRUTH)


def segmented() -> tuple[Task, np.ndarray]:
    """The same answers, each the only pixel of an image."""
    task = Segmentation(4)
    shape = (len(TRUTH), 1, 1)
    return task, task.count(ANSWERS.reshape(shape), TRUTH.reshape(shape))


def test_the_score_of_a_classification_is_its_accuracy() -> None:
    task, counts = classified()
    assert task.score_of(counts) == 3 / 5
    assert task.score_name == "accuracy"


def test_the_score_of_a_segmentation_is_its_miou() -> None:
    task, counts = segmented()
    assert task.score_of(counts) == pytest.approx((2 / 4 + 1 / 2 + 0) / 3)
    assert task.score_name == "mIoU"


def test_both_tasks_have_the_same_totals() -> None:
    totals = [task.total(counts) for task, counts in (classified(), segmented())]
    assert totals[0].tolist() == totals[1].tolist()
    assert totals[0].tolist() == [[2, 3, 3], [1, 2, 1], [0, 0, 1], [0, 0, 0]]


def test_the_floor_of_a_classification_is_what_the_best_constant_answer_gets() -> None:
    task = Classification(4)
    constant = [
        task.score_of(task.count(np.full_like(TRUTH, c), TRUTH)) for c in range(4)
    ]
    floor = task.floor(task.total(task.count(ANSWERS, TRUTH)))
    assert floor == max(constant) == 3 / 5


def test_a_class_s_score_is_the_share_of_its_images_that_are_right() -> None:
    task, counts = classified()
    scores = task.class_scores(task.total(counts))
    assert scores[:3].tolist() == [2 / 3, 1, 0]
    assert np.isnan(scores[3])


@pytest.mark.parametrize("given", [classified, segmented])
def test_drawing_every_image_once_gives_score_and_floor(given) -> None:
    task, counts = given()
    draws = np.ones((1, len(counts)))
    assert task.redrawn_scores(counts, draws) == [task.score_of(counts)]
    assert task.redrawn_floors(counts, draws) == [task.floor(task.total(counts))]


@pytest.mark.parametrize("given", [classified, segmented])
def test_an_image_drawn_twice_counts_as_two(given) -> None:
    task, counts = given()
    twice = np.concatenate([counts, counts[2:3]])
    draws = np.array([[1.0, 1, 2, 1, 1]])
    assert task.redrawn_scores(counts, draws) == [task.score_of(twice)]
    assert task.redrawn_floors(counts, draws) == [task.floor(task.total(twice))]


@pytest.mark.parametrize("given", [classified, segmented])
def test_images_show_the_classes_of_their_truth(given) -> None:
    task, counts = given()
    assert task.shown(counts).argmax(1).tolist() == TRUTH.tolist()
    assert task.shown(counts).sum() == len(TRUTH)


def test_a_thousand_classes_need_two_numbers_an_image() -> None:
    """ImageNet's 50,000 validation images under 100 keys must fit into memory."""
    truth = np.arange(50_000) % 1000
    counts = Classification(1000).count(truth, truth)
    assert counts.nbytes == 50_000 * 2 * 8
    assert Classification(1000).score_of(counts) == 1.0


def test_a_classification_ignores_nothing() -> None:
    task = task_of("classification", classes=300, ignore_index=255)
    assert task == Classification(300)
    assert task.ignore_index == NO_LABEL
    assert task_of("segmentation", classes=3, ignore_index=7) == Segmentation(3, 7)
