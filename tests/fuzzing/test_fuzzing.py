"""A few hundred broken inputs for every parser, drawn by hypothesis."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import all_targets
from tests.fuzzing.harness import Crash, Target, fuzz, mutate, outcome_of

PARTS = all_targets()
ROUNDS, INPUTS = 10, 20  # of one test: so many drawings, with so many inputs each


def test_every_parser_of_a_strangers_file_has_a_harness() -> None:
    named = (
        "keystore",
        "bundle file",
        "bundle graph",
        "bundle manifest",
        "bundle grant",
    )
    for name in (*named, "audit log", "recipe"):
        assert any(part.startswith(name) for part in PARTS), name


@pytest.mark.parametrize("name", PARTS)
def test_good_examples_are_accepted_or_refused(name: str) -> None:
    target = PARTS[name]
    assert target.examples
    for data in target.examples:
        outcome_of(target.read, data)


@pytest.mark.parametrize("name", PARTS)
@settings(
    max_examples=ROUNDS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(seed=st.integers(0, 2**32 - 1))
def test_only_refusals_come_out(name: str, seed: int) -> None:
    found = fuzz(name, PARTS[name], random.Random(seed), INPUTS)
    assert found.total() == INPUTS


@pytest.mark.parametrize("name", PARTS)
def test_most_broken_inputs_are_refused(name: str) -> None:
    """Shows that the harness breaks something."""
    draw, target = random.Random(1), PARTS[name]
    outcomes = [
        outcome_of(target.read, mutate(draw, target.examples)) for _ in range(60)
    ]
    assert outcomes.count("accepted") < len(outcomes)


def test_what_is_no_refusal_is_found() -> None:
    def read(data: bytes) -> None:
        if b"NaN" in data:
            raise KeyError("a bug")

    with pytest.raises(Crash, match="was brought down"):
        fuzz("it", Target([b"good"], read), random.Random(0), 10_000)
