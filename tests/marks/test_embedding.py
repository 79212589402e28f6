"""What a mark changes, and what it leaves alone: docs/spec/marks-v1.md, 1 and 3."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlguard.marks import AMPLITUDE, embed, mark, markable
from tests.marks.leaked import ALICE, SUBKEYS, weights

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/marks.json").read_text())


def cases(section: str) -> pytest.MarkDecorator:
    assert VECTORS[section], "the test would pass by testing nothing"
    ids = [case["comment"] for case in VECTORS[section]]
    return pytest.mark.parametrize("vector", VECTORS[section], ids=ids)


@cases("floats")
def test_floats_are_marked_to_the_bit(vector: dict) -> None:
    check(vector)


@cases("integers")
def test_integers_are_marked_by_single_steps(vector: dict) -> None:
    check(vector)


def check(vector: dict) -> None:
    values = np.array(vector["values"], dtype=vector["type"]).reshape(vector["shape"])
    marked = mark(
        vector["name"],
        values,
        SUBKEYS,
        bytes.fromhex(vector["grant_id"]),
        amplitude=vector["amplitude"],
    )
    expected = np.array(vector["marked"], dtype=vector["type"])
    assert (marked.reshape(-1) == expected).all()
    assert (marked != values).any()


def test_a_mark_is_small_everywhere_and_the_owners_weights_stay() -> None:
    before = weights()
    marked = embed(before, SUBKEYS, ALICE)
    assert list(marked) == list(before)
    assert all((before[name] == one).all() for name, one in weights().items())
    change = marked["head.weight"] - before["head.weight"]
    shares = change.std(axis=1) / before["head.weight"].std(axis=1)
    assert shares == pytest.approx(AMPLITUDE, rel=0.35)
    assert np.median(shares) == pytest.approx(AMPLITUDE, rel=0.05)


def test_what_is_no_weight_is_left_alone() -> None:
    before = weights()
    before["grid"] = np.arange(80.0, dtype="f4").repeat(160).reshape(6400, 2)
    before["axes"] = np.arange(4096, dtype=np.int64).reshape(64, 64)
    before["mask"] = np.triu(np.full((64, 64), -np.inf, dtype="f4"), 1)
    before["zeros"] = np.zeros((64, 64), dtype="f4")
    marked = embed(before, SUBKEYS, ALICE)
    changed = {name for name in before if marked[name] is not before[name]}
    assert changed == {n for n, one in before.items() if markable(one)}
    expected = {"stem.weight", "block.conv.weight", "block.other.weight", "head.weight"}
    assert changed == expected


def test_zeros_of_a_pruned_model_stay_zeros() -> None:
    values = weights()["head.weight"]
    values[::2] = 0
    marked = mark("head.weight", values, SUBKEYS, ALICE)
    assert (marked[::2] == 0).all()
    assert (marked[1::2] != values[1::2]).any()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8])
def test_the_type_stays(kind: type) -> None:
    values = (1000 * weights()["head.weight"]).clip(-100, 100).astype(kind)
    marked = mark("head.weight", values, SUBKEYS, ALICE)
    assert (marked.dtype, marked.shape) == (values.dtype, values.shape)
    assert (marked != values).mean() > 0.01


def test_nothing_leaves_the_range_of_its_type() -> None:
    values = np.random.default_rng(0).uniform(-65504, 65504, (64, 64)).astype("f2")
    values[0] = np.finfo(np.float16).max
    marked = mark("any", values, SUBKEYS, ALICE, amplitude=0.25)
    assert np.isfinite(marked).all()
    assert (marked != values).any()


@pytest.mark.parametrize("amplitude", [0.0, -0.01, 0.26, float("nan")])
def test_an_amplitude_out_of_bounds_is_refused(amplitude: float) -> None:
    with pytest.raises(ValueError, match="expected an amplitude above 0"):
        embed(weights(), SUBKEYS, ALICE, amplitude=amplitude)
