"""One value says what a key does for a model: it derives, and it adds up."""

import pytest

from mlguard.keys import ModelKey
from mlguard.transforms import (
    ChannelPermutation,
    KeyedLayer,
    KeyedTransforms,
    channels_key_space,
    derive_transform,
    key_space_bits,
)

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))
LAYERS = (KeyedLayer("stem", 16, False), KeyedLayer("head", 8, True))


def test_every_part_is_derived_under_its_own_name() -> None:
    found = KeyedTransforms(("shf",), 4, LAYERS).derive(SUBKEYS)
    stem = ChannelPermutation.derive(SUBKEYS, "stem", 16)
    head = ChannelPermutation.derive(SUBKEYS, "head", 8, signs=True)
    parts = (derive_transform(("shf",), SUBKEYS, 4), stem, head)
    expected = {k: v.tolist() for one in parts for k, v in one.slots().items()}
    assert {k: v.tolist() for k, v in found.slots().items()} == expected


def test_key_space_is_the_sum_of_the_parts_and_leaves_out_what_is_shown() -> None:
    keyed = KeyedTransforms(("np",), 2, LAYERS)
    inside = channels_key_space(16, signs=False) + channels_key_space(8, signs=True)
    assert keyed.key_space(shown=True) == pytest.approx(inside)
    assert keyed.key_space() == pytest.approx(key_space_bits(["np"], 2) + inside)
    derived = keyed.derive(SUBKEYS)
    assert (derived.key_space_bits, derived.channel_bits) == pytest.approx(
        (keyed.key_space(), keyed.key_space(shown=True))
    )


def test_a_key_that_leaves_images_alone_has_no_image_transform() -> None:
    assert KeyedTransforms(layers=LAYERS).derive(SUBKEYS).image is None
    assert KeyedTransforms().key_space() == 0.0
