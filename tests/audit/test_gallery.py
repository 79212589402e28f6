"""The pictures of a report: transformed images, and which examples are chosen."""

import numpy as np

from mlguard.audit.report.gallery import demonstrate
from mlguard.audit.run.examples import example_images
from mlguard.pictures import series_of

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 64, 96), dtype=np.uint8)


def test_each_method_is_shown_alone_and_then_together() -> None:
    rows = demonstrate(IMAGE, ("np", "shf"), own=4)
    assert [row.title for row in rows] == ["np", "shf", "np + shf"]
    assert series_of(("shf",)) == [("shf",)]


def test_the_demonstration_is_the_same_every_time_and_really_transforms() -> None:
    plain, *rest = demonstrate(IMAGE, ("shf",), own=4)[0].pictures
    again = demonstrate(IMAGE, ("shf",), own=4)[0].pictures
    assert (plain, *rest) == again
    assert len({picture.png for picture in again}) == len(again)


def test_examples_show_as_many_classes_as_they_can() -> None:
    pixels = np.array([[9, 0, 0, 0], [9, 5, 0, 0], [9, 5, 5, 0], [9, 0, 0, 1]])
    present = pixels > 0
    assert example_images(present, 2) == [2, 3]
    assert example_images(present, 9) == [2, 3, 1, 0]
    assert example_images(present, 0) == []
