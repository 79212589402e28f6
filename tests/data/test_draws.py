"""Reproducible draws: SplitMix64 as published, and what is made of its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlguard.data.draws import GOLDEN, Draws, splitmix64

# Five outputs for the seed 1234567, as implementations in many languages give them:
# https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
PUBLISHED = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)


@pytest.mark.parametrize(("step", "word"), list(enumerate(PUBLISHED)))
def test_words_are_the_published_ones(step: int, word: int) -> None:
    assert splitmix64(1234567 + step * GOLDEN) == word


@given(st.integers(0, 2**64 - 1), st.integers(1, 20))
def test_words_drawn_together_are_those_drawn_one_by_one(part: int, count: int) -> None:
    together = Draws(part).words(count).tolist()
    one_by_one = Draws(part)
    assert [one_by_one.between(0, 2**64 - 1) for _ in range(count)] == together


def test_a_stream_goes_on_after_words_drawn_together() -> None:
    first, second = Draws(5), Draws(5)
    first.words(3)
    for _ in range(3):
        second.unit()
    assert first.unit() == second.unit()


@given(st.integers(), st.integers(-50, 50), st.integers(0, 100))
def test_an_integer_lies_between_its_ends(part: int, low: int, span: int) -> None:
    assert low <= Draws(part).between(low, low + span) <= low + span


def test_both_ends_are_drawn() -> None:
    draws = Draws(0)
    assert {draws.between(1, 6) for _ in range(200)} == {1, 2, 3, 4, 5, 6}


def test_units_fill_the_interval_evenly() -> None:
    draws = Draws(0)
    units = [draws.unit() for _ in range(4000)]
    assert 0 <= min(units) < 0.01
    assert 0.99 < max(units) < 1
    assert sum(units) / 4000 == pytest.approx(0.5, abs=0.02)


def test_the_order_of_the_parts_counts() -> None:
    assert Draws(1, 2).unit() != Draws(2, 1).unit()
