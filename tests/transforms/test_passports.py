"""Passports: pinned against an independent generator, and what they refuse."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from mlguard.keys import ModelKey
from mlguard.transforms import KeyedNorm, KeyedTransforms, Passport, TransformSet
from mlguard.transforms.nearby import changed_share, nearby, same

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors/transforms.json").read_text()
)["passports"]
SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))
STEM = KeyedNorm("stem.0", "stem.1", 27)
KEYED = KeyedTransforms(norms=(STEM, KeyedNorm("head.0", "head.1", 100)))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one["comment"])
def test_signs_scale_and_bias_are_those_of_the_specification(vector: dict) -> None:
    outputs, *rest = vector["shape"]
    length = int(np.prod(rest))
    key = ModelKey(bytes.fromhex(vector["secret"]))
    subkeys = key.for_model(bytes.fromhex(vector["protection_id"]))
    passport = Passport.derive(subkeys, KeyedNorm(vector["layer"], "norm", length))
    assert passport.scale.tolist() == vector["scale_signs"]
    assert passport.bias.tolist() == vector["bias_signs"]
    o, i = np.ogrid[:outputs, :length]
    weights = ((31 * o + 7 * i + o * i) % 256 - 128).astype(np.float32) / 16
    scale, bias = passport.apply(weights.reshape(vector["shape"]))
    assert scale.tolist() == vector["scale"]
    assert bias.tolist() == vector["bias"]


def test_every_vector_has_other_signs() -> None:
    signs = {tuple(one["scale_signs"]) for one in VECTORS}
    signs |= {tuple(one["bias_signs"]) for one in VECTORS}
    assert len(signs) == 2 * len(VECTORS)


def test_the_key_space_is_one_bit_for_each_sign() -> None:
    derived = KEYED.derive(SUBKEYS)
    assert KEYED.key_space() == derived.key_space_bits == 2 * (27 + 100)
    assert not derived.empty
    assert TransformSet().empty


def test_it_is_key_material() -> None:
    passport = Passport.derive(SUBKEYS, STEM)
    assert repr(passport) == "Passport('stem.0', length=27)"
    with pytest.raises(ValueError, match="read-only"):
        passport.scale[0] = 1
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(passport)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (KeyedNorm("stem", "norm", 0), "expected 1 to 1048576 weights, got 0"),
        (KeyedNorm("stem", "norm", 1 << 21), "expected 1 to 1048576 weights"),
        (KeyedNorm("", "norm", 9), "a name of 1 to 200 characters"),
        (KeyedNorm("a" * 201, "norm", 9), "a name of 1 to 200 characters"),
    ],
)
def test_what_no_layer_has_is_refused(where: KeyedNorm, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Passport.derive(SUBKEYS, where)


def test_signs_are_plus_or_minus_one() -> None:
    signs = np.ones(27, dtype=np.float32)
    with pytest.raises(ValueError, match="expected 27 signs of"):
        Passport(STEM, signs, 0 * signs)
    with pytest.raises(ValueError, match="expected 27 signs of"):
        Passport(STEM, signs[1:], signs)


@pytest.mark.parametrize(("share", "changed"), [(0, 0), (0.1, 13 / 127), (1, 1)])
def test_a_neighbour_has_a_share_of_the_signs_changed(
    share: float, changed: float
) -> None:
    correct = KEYED.derive(SUBKEYS)
    other = nearby(correct, share, subkeys=SUBKEYS, use="test")
    assert changed_share(correct, other) == pytest.approx(changed)
    assert same(correct, other) == (share == 0)
