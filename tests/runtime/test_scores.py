"""A bundle whose task does not fit its model is refused in a sentence."""

import numpy as np
import pytest

from mlguard.errors import BundleError
from mlguard.runtime import Session
from tests.bundles import KEY, images
from tests.bundles2 import small2, task_facts

TASKS = {
    "a classification of pixels' scores": {
        "name": "classification",
        "ignore_index": None,
    },
    "fewer classes than scores": {"class_names": ("a", "b")},
    "more classes than scores": {"class_names": tuple("abcdef")},
}


@pytest.mark.parametrize("changes", TASKS.values(), ids=TASKS)
def test_scores_that_are_no_answer_are_refused(changes: dict) -> None:
    session = Session(small2(task=task_facts(**changes)), KEY)
    with pytest.raises(BundleError, match="axes with"):
        session.logits(images(1, 3, 8, 8))


def test_scores_that_fit_are_answered() -> None:
    found = Session(small2(), KEY).logits(images(1, 3, 8, 8))
    assert np.isfinite(found).all()
