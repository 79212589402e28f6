"""Deterministic choice: the words, permutations and masks of docs/spec/keys-v1.md."""

import hashlib
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlguard.keys import ModelKey
from mlguard.transforms import ChannelPermutation, choice

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/keys.json").read_text())
SUBKEYS = st.binary(min_size=32, max_size=32)


def cases(section: str) -> pytest.MarkDecorator:
    assert VECTORS[section], "the test would pass by testing nothing"
    ids = [case["comment"] for case in VECTORS[section]]
    return pytest.mark.parametrize("vector", VECTORS[section], ids=ids)


@cases("words")
def test_words_match_the_specification(vector: dict) -> None:
    expected = vector["words"]
    words = choice.words(bytes.fromhex(vector["subkey"]))
    assert list(islice(words, len(expected))) == expected


def test_the_first_word_is_the_one_printed_in_the_rfc() -> None:
    word = next(choice.words(bytes(32)))
    assert word.to_bytes(4, "little").hex() == "76b8e0ad"  # RFC 8439, A.1, vector 1


def test_words_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch) -> None:
    expected = list(islice(choice.words(bytes(32)), 100))
    monkeypatch.setattr(choice, "WORDS_PER_DRAW", 7)
    assert list(islice(choice.words(bytes(32)), 100)) == expected


@cases("permutations")
def test_permutation_matches_the_specification(vector: dict) -> None:
    subkey, expected = bytes.fromhex(vector["subkey"]), vector["order"]
    assert choice.permutation(subkey, len(expected)).tolist() == expected


@cases("long_permutations")
def test_long_permutation_matches_the_specification(vector: dict) -> None:
    order = choice.permutation(bytes.fromhex(vector["subkey"]), vector["length"])
    digest = hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()
    assert digest == vector["sha256"]


def test_one_long_permutation_rejects_words() -> None:
    """Without this the vectors would not notice a missing rejection."""
    assert any(vector["rejected"] for vector in VECTORS["long_permutations"])


@cases("half_masks")
def test_half_mask_matches_the_specification(vector: dict) -> None:
    subkey, expected = bytes.fromhex(vector["subkey"]), vector["mask"]
    assert choice.half_mask(subkey, len(expected)).tolist() == expected


@cases("coin_flips")
def test_coin_flips_match_the_specification(vector: dict) -> None:
    subkey, expected = bytes.fromhex(vector["subkey"]), vector["flips"]
    assert choice.coin_flips(subkey, len(expected)).tolist() == expected


@cases("channels")
def test_channel_permutations_match_the_specification(vector: dict) -> None:
    key = ModelKey(bytes.fromhex(vector["secret"]))
    subkeys = key.for_model(bytes.fromhex(vector["protection_id"]))
    number = len(vector["order"])
    one = ChannelPermutation.derive(subkeys, vector["layer"], number, signs=True)
    assert one.order.tolist() == vector["order"]
    assert one.signs is not None
    assert one.signs.tolist() == vector["signs"]


@settings(deadline=None, max_examples=50)
@given(subkey=SUBKEYS, length=st.integers(1, 300))
def test_a_permutation_holds_every_position_once(subkey: bytes, length: int) -> None:
    order = choice.permutation(subkey, length)
    np.testing.assert_array_equal(np.sort(order), np.arange(length))


@settings(deadline=None, max_examples=50)
@given(subkey=SUBKEYS, length=st.integers(1, 300))
def test_a_half_mask_sets_half_rounded_down(subkey: bytes, length: int) -> None:
    assert choice.half_mask(subkey, length).sum() == length // 2


def test_every_permutation_of_three_is_about_as_frequent() -> None:
    orders = [choice.permutation(i.to_bytes(32, "big"), 3) for i in range(1200)]
    counts = Counter(tuple(order.tolist()) for order in orders)
    assert len(counts) == 6
    # 200 expected each, standard deviation 13: five of them either side
    assert all(135 < count < 265 for count in counts.values())


def test_choices_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        choice.permutation(bytes(32), 4)[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        choice.half_mask(bytes(32), 4)[0] = True
