"""Sessions and processes: never pickled, never used across a fork."""

import multiprocessing
import os
import pickle

import numpy as np
import pytest

from mlguard.errors import ProviderError
from mlguard.runtime import Session
from tests.bundles import KEY, images
from tests.bundles2 import small2

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def test_a_session_is_never_pickled() -> None:
    with pytest.raises(TypeError, match="open the bundle in each process"):
        pickle.dumps(Session(small2(), KEY))


def _child(session: Session, answers) -> None:
    try:
        session.predict(images(1, 3, 8, 8))
        answers.put("answered")
    except ProviderError as refusal:
        answers.put(str(refusal))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_session_that_was_forked_is_refused_and_does_not_wait() -> None:
    context = multiprocessing.get_context("fork")
    session, answers = Session(small2(), KEY), context.Queue()
    session.predict(images(1, 3, 8, 8))
    child = context.Process(target=_child, args=(session, answers))
    child.start()
    said = answers.get(timeout=60)
    child.join(60)
    assert "was opened before this process was forked" in said


def _worker(answers) -> None:
    answers.put(Session(small2(), KEY).predict(images(1, 3, 8, 8)).tolist())


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_that_opens_its_own_answers(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    child = context.Process(target=_worker, args=(answers,))
    child.start()
    found = np.array(answers.get(timeout=120))
    child.join(60)
    expected = Session(small2(), KEY).predict(images(1, 3, 8, 8))
    np.testing.assert_array_equal(found, expected)
