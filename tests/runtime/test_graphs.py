"""Running a bundle's graphs with anything in their key slots, as a thief would."""

import numpy as np
import pytest

from mlguard.bundle import TransformFacts
from mlguard.errors import BundleError, MalformedBundle
from mlguard.runtime import Graphs, Session, graphs
from mlguard.transforms import ChannelPermutation, derive_transform
from tests.bundles import (
    KEY,
    OTHER_KEY,
    PROTECTION_ID,
    images,
    keyed_bundle,
    small_bundle,
)

METHODS = [("shf",), ("np",), ("ffx",), ("np", "shf", "ffx"), ("orthogonal",)]
IMAGES = images(2, 3, 16, 16)


def transform(methods: tuple[str, ...] = ("shf",), size: int = 4, key=KEY):
    return derive_transform(methods, key.for_model(PROTECTION_ID), size)


@pytest.mark.parametrize("methods", METHODS, ids="+".join)
def test_with_the_correct_transforms_it_is_the_session(methods) -> None:
    given = TransformFacts(methods=methods, block_size=4)
    bundle = small_bundle(transform=given)
    run = Graphs(bundle)
    found = run.logits(run.pixels(IMAGES, transform(methods)))
    np.testing.assert_array_equal(found, Session(bundle, KEY).logits(IMAGES))


def test_other_transforms_give_other_logits_and_are_not_mixed_up() -> None:
    run = Graphs(small_bundle())
    correct, other = transform(), transform(key=OTHER_KEY)
    first = run.pixels(IMAGES, correct)
    assert (run.pixels(IMAGES, other) != first).any()
    np.testing.assert_array_equal(run.pixels(IMAGES, correct), first)


def test_plain_images_are_normalized_and_nothing_else() -> None:
    bundle = small_bundle(transform=TransformFacts(methods=("np",), block_size=1))
    found = Graphs(bundle).plain(IMAGES)
    mean, std = (np.array(v).reshape(3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.3, 1)))
    np.testing.assert_allclose(found, (IMAGES / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "other",
    [transform(size=2), transform(("np",)), transform(("np", "shf")), None],
    ids=["block size", "method", "chain", "none"],
)
def test_a_transform_that_the_graph_is_not_made_for_is_refused(other) -> None:
    run = Graphs(small_bundle())
    assert not run.takes(other)
    with pytest.raises(ValueError, match="expected a transform of shf, M = 4"):
        run.pixels(IMAGES, other)


def test_slots_that_nobody_names_hold_the_identity() -> None:
    keyed, plain = Graphs(keyed_bundle()), Graphs(small_bundle())
    pixels = keyed.plain(IMAGES)
    np.testing.assert_allclose(keyed.logits(pixels), plain.logits(pixels), atol=1e-5)


def test_a_slot_holds_the_permutation_that_it_is_given() -> None:
    run = Graphs(keyed_bundle())
    pixels = run.plain(IMAGES)
    turned = ChannelPermutation(
        "fed", np.array([2, 0, 1]), np.array([1, -1, 1], dtype=np.float32)
    )
    found = run.logits(pixels, (turned,))
    np.testing.assert_allclose(found, run.logits(turned.apply(pixels)), atol=1e-5)
    assert not np.allclose(found, run.logits(pixels))


def test_a_layer_without_a_slot_is_refused() -> None:
    stray = ChannelPermutation("other", np.arange(3))
    with pytest.raises(ValueError, match=r"no key slot channels\.order/other"):
        Graphs(keyed_bundle()).logits(IMAGES.astype(np.float32), (stray,))


def test_a_permutation_of_another_length_is_refused_without_showing_it() -> None:
    longer = ChannelPermutation("fed", np.arange(4), np.ones(4, dtype=np.float32))
    with pytest.raises(MalformedBundle, match=r"model\.onnx cannot be loaded$"):
        Graphs(keyed_bundle()).logits(IMAGES.astype(np.float32), (longer,))


def test_a_sealed_bundle_has_nothing_to_run() -> None:
    with pytest.raises(BundleError, match="the model is sealed"):
        Graphs(small_bundle(sealed=True))


def test_a_graph_is_loaded_once_for_one_transform(monkeypatch) -> None:
    loads = []
    load = graphs.load_graph
    monkeypatch.setattr(
        graphs, "load_graph", lambda *a, **k: loads.append(k["name"]) or load(*a, **k)
    )
    run, correct = Graphs(small_bundle()), transform()
    for _ in range(3):
        run.logits(run.pixels(IMAGES, correct))
    assert [name.rpartition(" ")[2] for name in loads] == [
        "preprocess.onnx",
        "model.onnx",
    ]
