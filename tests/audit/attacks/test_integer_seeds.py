"""Keys of the published code are found by counting; ours are not."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from mlguard import recipe
from mlguard.audit.attacks.base import Outcome, Scene
from mlguard.audit.attacks.integer_seeds import (
    IntegerSeeds,
    published_key,
    published_transforms,
)
from mlguard.keys import ModelKey
from mlguard.models import keyed
from mlguard.transforms import (
    ChannelPermutation,
    FormatPreserving,
    NegativePositive,
    PixelShuffle,
    TransformSet,
    derive_transform,
)
from tests.audits import run_all
from tests.planted import (
    CHANNELS,
    TASK,
    Noise,
    channel_permutation,
    np_transform,
    planted,
    planted_features,
    scene_of,
    scene_of_features,
)

SEED = 123  # of the planted keys
ATTACK = IntegerSeeds(seed=0, images=4, seeds=200)
OWN = ModelKey(bytes(range(32))).for_model(bytes(16))
FOUND, LOST = 0.99, 0.7  # scores


def scores_of(outcomes: list[Outcome]) -> dict[str, float]:
    return {outcome.variant: TASK.score_of(outcome.counts) for outcome in outcomes}


def shuffle(seed: int, block_size: int = 2) -> PixelShuffle:
    return PixelShuffle(block_size, published_key("shf", 3 * block_size**2, seed))


def mask(seed: int, block_size: int = 2) -> NegativePositive:
    chosen = published_key("np", 3 * block_size**2, seed)
    return NegativePositive(block_size, chosen.astype(np.bool_))


def permutation(seed: int) -> ChannelPermutation:
    return ChannelPermutation("relu", published_key("channels", CHANNELS, seed))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("make", "method"), [(shuffle, "shf"), (mask, "np")])
def test_a_planted_seed_is_found_with_and_without_labels(
    make, method: str, size: int
) -> None:
    transform = make(SEED, size)
    outcomes = list(run_all(ATTACK, scene_of(planted(transform), transform, method)))
    found = scores_of(outcomes)
    assert set(found) == {"batch-norm", "cross-entropy"}
    assert all(score > FOUND for score in found.values())
    assert [(one.rung, one.labels) for one in outcomes] == [("T3", 0), ("T4", 4)]
    assert {one.queries for one in outcomes} == {200 * 4}
    assert all(one.converged for one in outcomes)


@pytest.mark.parametrize("free", ["batch-norm", "entropy"])
def test_a_planted_seed_of_a_permuted_layer_is_found(free: str) -> None:
    channels = permutation(SEED)
    scene = scene_of_features(planted_features(channels), channels)
    correct = correct_score(scene, channels)
    if free == "entropy":
        scene.stolen.model.norm = Standardized(scene.stolen.model.norm)
    found = scores_of(list(run_all(ATTACK, scene)))
    assert set(found) == {free, "cross-entropy"}
    assert found["cross-entropy"] == pytest.approx(correct, abs=0.01)
    if free == "batch-norm":  # entropy says little of two classes, as elsewhere
        assert found[free] == correct > 0.9


class Standardized(nn.Module):
    """What a batch normalization does, without its being one."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("mean", norm.running_mean.view(1, -1, 1, 1))
        self.register_buffer("variance", norm.running_var.view(1, -1, 1, 1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return (values - self.mean) / (self.variance + self.eps).sqrt()


def correct_score(scene: Scene, channels: ChannelPermutation) -> float:
    condition = keyed(TransformSet(None, (channels,)))
    return TASK.score_of(scene.referee(scene.stolen.model, condition))


@pytest.mark.parametrize(("size", "method"), [(2, "shf"), (4, "shf"), (4, "np")])
def test_a_key_of_ours_is_not_found(size: int, method: str) -> None:
    transform = derive_transform([method], OWN, size)
    found = scores_of(
        list(run_all(ATTACK, scene_of(planted(transform), transform, method)))
    )
    assert all(score < LOST for score in found.values())


def test_a_permuted_layer_of_ours_is_not_found() -> None:
    """Whatever the best of so few orders gives, it is not the correct one."""
    channels = channel_permutation(seed=9)
    keys = {published_key("channels", CHANNELS, seed).tobytes() for seed in range(200)}
    assert channels.order.tobytes() not in keys
    scene = scene_of_features(planted_features(channels), channels)
    correct = correct_score(scene, channels)
    assert all(
        x < correct - 0.1 for x in scores_of(list(run_all(ATTACK, scene))).values()
    )


def test_a_seed_beyond_those_tried_is_not_found() -> None:
    transform = shuffle(ATTACK.seeds, 4)
    found = scores_of(
        list(run_all(ATTACK, scene_of(planted(transform), transform, "shf")))
    )
    assert all(score < LOST for score in found.values())


def test_nothing_is_found_in_weights_of_noise() -> None:
    transform = shuffle(SEED)
    found = scores_of(list(run_all(ATTACK, scene_of(Noise(), transform, "shf"))))
    assert all(score < LOST for score in found.values())


@pytest.mark.parametrize("length", [12, 48, 300])
@pytest.mark.parametrize("seed", [0, 42, 2**31])
def test_a_key_is_what_the_published_code_makes_of_its_seed(
    length: int, seed: int
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        order = torch.randperm(length)
    np.testing.assert_array_equal(published_key("shf", length, seed), order)
    np.testing.assert_array_equal(published_key("channels", length, seed), order)
    np.testing.assert_array_equal(
        published_key("ffx", length, seed), order > length / 2
    )
    assert published_key("np", length, seed).sum() == length // 2 - 1


def test_the_generator_of_the_process_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    published_key("shf", 12, 5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_seed_counts_by_its_lowest_32_bits() -> None:
    """So there are no more keys than that, however large the integer."""
    one, other = (published_key("shf", 48, seed) for seed in (5, 5 + 2**32))
    np.testing.assert_array_equal(one, other)
    assert (published_key("shf", 48, 6) != one).any()


def test_ffx_is_a_search_for_the_mask_with_the_table_known() -> None:
    table = np.arange(256, dtype=np.int32)[::-1] * 3 + 1
    ffx = FormatPreserving(2, mask(SEED).mask, table)
    outcomes = list(run_all(ATTACK, scene_of(Noise(), ffx, "ffx")))
    assert {one.notes for one in outcomes} == {("table-assumed-known",)}


def spec_of(**fields: object) -> recipe.Transform:
    return recipe.Transform.model_validate(fields)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (spec_of(method=("np", "shf"), block_size=2), "one key"),
        (spec_of(method="channels", layers=("a", "b")), "one key"),
        (
            spec_of(method=("shf", "channels"), block_size=2, layers=("a",)),
            "one key",
        ),
        (spec_of(method="orthogonal", block_size=2), "guesses of orthogonal"),
    ],
    ids=["chain", "two layers", "both", "orthogonal"],
)
def test_what_the_published_code_has_no_key_for_is_left_out(spec, words: str) -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    assert words in ATTACK.impossible(dataclasses.replace(scene, spec=spec))
    assert ATTACK.impossible(scene) == ""


@pytest.mark.parametrize("method", ["shf", "np", "ffx"])
def test_what_a_seed_does_to_images_can_be_had_for_an_audit(method: str) -> None:
    spec = spec_of(method=method, block_size=2)
    made = published_transforms(spec, SEED)
    chosen = made.image.order if method == "shf" else made.image.mask
    np.testing.assert_array_equal(chosen, published_key(method, 12, SEED))
    assert made.channels == ()
    if method == "ffx":  # what pyffx makes of 0, 1, 2 under the published password
        assert made.image.table[:3].tolist() == [355, 522, 858]


def test_what_a_seed_does_to_a_layer_can_be_had_for_an_audit() -> None:
    spec = spec_of(method="channels", layers=("relu",))
    made = published_transforms(spec, SEED, channels={"relu": CHANNELS})
    (one,) = made.channels
    assert (one.order == permutation(SEED).order).all()
    with pytest.raises(ValueError, match="one key"):
        published_transforms(spec, SEED)


def test_a_part_of_a_group_can_be_found_alone() -> None:
    transform = shuffle(SEED)
    scene = scene_of(planted(transform), transform, "shf")
    ((free, labelled),) = ATTACK.variants(scene)
    (outcome,) = ATTACK.run(scene, (labelled,))
    assert (outcome.variant, free.name) == ("cross-entropy", "batch-norm")


def test_the_key_found_is_the_one_that_was_planted() -> None:
    """What is handed to the referee does to images what the planted key does."""
    transform = shuffle(SEED)
    scene = scene_of(planted(transform), transform, "shf")
    seen: list[TransformSet] = []
    referee = scene.referee

    def watching(model, condition):
        seen.append(condition.transforms)
        return referee(model, condition)

    list(run_all(ATTACK, dataclasses.replace(scene, referee=watching)))
    assert all((one.image.order == transform.order).all() for one in seen)
    assert len(seen) == 2
