"""One image and its transformed version: the key is read off, or it is said why not."""

import numpy as np
import pytest
import torch

from mlguard.audit.attacks.known_plaintext import KnownPlaintext, recover, solve
from mlguard.transforms import Compose, FormatPreserving, derive_transform
from tests.audits import KEY, OTHER_KEY, PROTECTION_ID, run_all
from tests.planted import TASK, Noise, np_transform, planted, scene_of, shf_transform

METHODS = [("shf",), ("np",), ("ffx",), ("shf", "np"), ("np", "shf")]


def natural(seed: int, size: int = 64) -> np.ndarray:
    """An image with every value, like a photograph's in what matters here."""
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (3, size, size)).astype(np.uint8)


@pytest.mark.parametrize("block_size", [1, 2, 4, 8])
@pytest.mark.parametrize("methods", METHODS, ids="+".join)
def test_one_pair_gives_the_transform_of_every_other_image(
    methods: tuple[str, ...], block_size: int
) -> None:
    correct = derive_transform(methods, KEY.for_model(PROTECTION_ID), block_size)
    image, other = natural(0), natural(1)
    recovered = recover(image, correct.apply(image[None])[0], methods, block_size)
    assert recovered.explains
    assert recovered.complete
    made = recovered.transform.apply(other[None])
    assert np.array_equal(made, correct.apply(other[None]))


@pytest.mark.parametrize("methods", METHODS, ids="+".join)
def test_a_pair_of_another_key_does_not_give_this_one(methods) -> None:
    """Also proves that the test above can fail."""
    correct = derive_transform(methods, KEY.for_model(PROTECTION_ID), 2)
    another = derive_transform(methods, OTHER_KEY.for_model(PROTECTION_ID), 2)
    image = natural(0)
    recovered = recover(image, another.apply(image[None])[0], methods, 2)
    made = recovered.transform.apply(image[None])
    assert not np.array_equal(made, correct.apply(image[None]))


def test_an_image_that_is_not_of_the_pair_explains_nothing() -> None:
    correct = derive_transform(("ffx",), KEY.for_model(PROTECTION_ID), 2)
    recovered = recover(natural(0), correct.apply(natural(1)[None])[0], ("ffx",), 2)
    assert not recovered.explains


@pytest.mark.parametrize("methods", METHODS, ids="+".join)
def test_a_flat_image_leaves_a_choice_and_says_so(methods) -> None:
    correct = derive_transform(methods, KEY.for_model(PROTECTION_ID), 2)
    flat = np.full((3, 8, 8), 100, dtype=np.uint8)
    recovered = recover(flat, correct.apply(flat[None])[0], methods, 2)
    assert recovered.complete == (methods == ("np",))


@pytest.mark.parametrize(
    ("transform", "method"),
    [(np_transform(4), "np"), (shf_transform(4), "shf")],
    ids=["np", "shf"],
)
def test_a_recovered_transform_unlocks_a_planted_model(transform, method) -> None:
    scene = scene_of(planted(transform), transform, method)
    (outcome,) = run_all(KnownPlaintext(seed=0), scene)
    assert (outcome.rung, outcome.images, outcome.labels) == ("T6", 1, 0)
    assert TASK.score_of(outcome.counts) == 1.0
    assert outcome.converged


def test_a_recovered_transform_of_noise_is_worth_nothing() -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    (outcome,) = run_all(KnownPlaintext(seed=0), scene)
    assert TASK.score_of(outcome.counts) < 0.5


def test_a_chain_with_ffx_is_left_alone_with_a_reason() -> None:
    mask = np_transform().mask
    ffx = FormatPreserving(2, mask, np.arange(256)[::-1])
    chain = Compose([shf_transform(), ffx])
    scene = scene_of(Noise(), chain, "shf", "ffx")
    assert "not supported" in KnownPlaintext(seed=0).impossible(scene)


def test_an_orthogonal_map_is_solved_for_from_one_pair() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    other = np.random.default_rng(1).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    transform = derive_transform(("orthogonal",), KEY.for_model(PROTECTION_ID), 4)
    solved = solve(image, transform.apply(image[None])[0], 4)
    made = solved.adapter(torch.from_numpy(other)).numpy()
    assert solved.complete
    np.testing.assert_allclose(made, transform.apply(other), rtol=0, atol=1e-4)


def test_too_few_blocks_leave_an_orthogonal_map_open() -> None:
    """The twin of the test above: 16 blocks do not tell 49 unknowns."""
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    transform = derive_transform(("orthogonal",), KEY.for_model(PROTECTION_ID), 4)
    assert not solve(image, transform.apply(image[None])[0], 4).complete
