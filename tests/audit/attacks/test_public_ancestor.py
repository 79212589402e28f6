"""Weights with a public ancestor give the key away; weights without one do not."""

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard import recipe
from mlguard.audit.attacks.places import Places
from mlguard.audit.attacks.public_ancestor import PublicAncestor
from mlguard.audit.attacks.search.assignment import assign, cosines
from mlguard.models import NO_KEY, Normalization, build_model, keyed, rewrite
from mlguard.models.binding import fold_permutations
from mlguard.protect.binding import fold
from mlguard.transforms import ChannelPermutation, TransformSet, derive_transform
from tests.audits import KEY, PROTECTION_ID, run_all
from tests.planted import (
    CHANNELS,
    MIXED,
    TASK,
    PlantedFeatures,
    channel_permutation,
    plain_features,
    planted_features,
    planted_images,
    scene_of,
    scene_of_features,
    shf_transform,
    with_ancestor,
)

ATTACK = PublicAncestor(seed=0)


@pytest.mark.parametrize("signs", [False, True])
def test_a_permuted_layer_that_drifted_is_matched(tmp_path, signs: bool) -> None:
    channels = channel_permutation(signs=signs)
    scene = scene_of_features(planted_features(channels, drift=0.03), channels)
    scene = with_ancestor(
        scene,
        tmp_path / "a.safetensors",
        plain_features().state_dict(),
        PlantedFeatures,
    )
    assert ATTACK.impossible(scene) == ""
    (outcome,) = run_all(ATTACK, scene)
    assert TASK.score_of(outcome.counts) > 0.9
    assert TASK.score_of(scene.referee(scene.stolen.model, NO_KEY)) < 0.8
    assert (outcome.rung, outcome.images, outcome.notes) == ("T5", 0, ())


def test_columns_are_paired_once_for_a_scene(tmp_path, monkeypatch) -> None:
    """Whether it can run, what it leaves out, and its groups ask for the same."""
    channels, asked = channel_permutation(), []
    of = Places.of
    monkeypatch.setattr(Places, "of", lambda *args: asked.append(1) or of(*args))
    scene = scene_of_features(planted_features(channels), channels)
    plain = plain_features().state_dict()
    scene = with_ancestor(scene, tmp_path / "a.safetensors", plain, PlantedFeatures)
    ATTACK.impossible(scene)
    ATTACK.left_out(scene)
    run_all(ATTACK, scene)
    assert len(asked) == 1
    other = dataclasses.replace(scene, spec=scene.spec)
    assert not ATTACK.impossible(other)
    assert len(asked) == 2, "and anew for another scene"


def test_unrelated_weights_match_nothing_and_it_is_said(tmp_path) -> None:
    channels = channel_permutation(signs=True)
    scene = scene_of_features(planted_features(channels), channels)
    unrelated = plain_features()
    with torch.random.fork_rng():
        torch.manual_seed(77)
        nn.init.normal_(unrelated.mix.weight)
    scene = with_ancestor(
        scene, tmp_path / "a.safetensors", unrelated.state_dict(), PlantedFeatures
    )
    (outcome,) = run_all(ATTACK, scene)
    assert TASK.score_of(outcome.counts) < 0.8
    assert outcome.notes == ("ancestor-unlike",)


def headless() -> PlantedFeatures:
    """With a head that no public weights give, other in each build."""
    model = PlantedFeatures()
    model.head.reset_parameters()
    return model


def test_what_the_ancestor_does_not_know_is_learned(tmp_path) -> None:
    """A head of its own: the ancestor has no layer that reads the last feature map."""
    known, draw = channel_permutation(), np.random.default_rng(4)
    last = ChannelPermutation("norm", draw.permutation(MIXED), None)
    plain = plain_features().eval()
    scene = scene_of_features(fold_permutations(plain, (known, last)), known)
    spec = recipe.Transform(method="channels", layers=("relu", "norm"))
    scene = dataclasses.replace(scene, spec=spec)
    weights = {
        k: v for k, v in plain_features().state_dict().items() if "head" not in k
    }
    scene = with_ancestor(scene, tmp_path / "a.safetensors", weights, headless)
    attack = dataclasses.replace(ATTACK, labelled=(8,), steps=200, rates=(1e-2,))
    matched, learned = run_all(attack, scene)
    scores = [TASK.score_of(one.counts) for one in (matched, learned)]
    assert scores[0] < 0.8
    assert scores[1] > 0.9
    assert (matched.variant, matched.labels) == ("matched columns", 0)
    assert (learned.variant, learned.labels) == ("matched columns, adapters", 8)
    assert attack.left_out(scene)


class PatchModel(nn.Module):
    """Reads whole blocks: a key of the image can be folded into it."""

    def __init__(self, block_size: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.stem = nn.Conv2d(3, 64, 2 * block_size, stride=2 * block_size)
            self.head = nn.Conv2d(64, 2, 1)
        self.size = 2 * block_size

    def forward(self, pixels: Tensor) -> Tensor:
        scores = self.head(self.stem(pixels))
        return nn.functional.interpolate(scores, scale_factor=self.size)


@pytest.mark.parametrize("block_size", [2, 4])
@pytest.mark.parametrize("method", ["shf", "np", "shf+np", "np+shf"])
def test_a_key_folded_into_a_patch_stem_is_matched(
    tmp_path, method: str, block_size: int
) -> None:
    plain = centred(PatchModel(block_size))
    bound = copy.deepcopy(plain)
    methods = tuple(method.split("+"))
    subkeys = KEY.for_model(PROTECTION_ID)
    transform = derive_transform(methods, subkeys, block_size)
    fold(bound, TransformSet(transform), Normalization())
    scene = scene_of(bound, transform, *methods)
    build = functools.partial(PatchModel, block_size)
    scene = with_ancestor(scene, tmp_path / "a.safetensors", plain.state_dict(), build)
    (outcome,) = run_all(ATTACK, scene)
    correct = scene.referee(bound, keyed(TransformSet(transform)))
    assert abs(TASK.score_of(outcome.counts) - TASK.score_of(correct)) < 0.01
    assert outcome.notes == ()
    assert not np.array_equal(correct, scene.referee(bound, NO_KEY))


def centred(model: PatchModel) -> PatchModel:
    """So that both classes are answered."""
    images = planted_images(8, seed=3, block_size=model.size // 2).images
    with torch.no_grad():
        model.head.bias -= model(Normalization()(images / 255)).mean((0, 2, 3))
    return model


@pytest.mark.parametrize("batch_norm", ["running", "folded"])
@pytest.mark.parametrize("method", ["shf", "np"])
def test_a_key_folded_into_a_lifted_stem_is_matched(
    tmp_path, method: str, batch_norm: str
) -> None:
    """As `mlguard bind` makes it, from public weights."""
    spec = recipe.Model(name="fcn_small", stem="blocks", batch_norm=batch_norm)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = build_model(spec, 2).eval()
    transform = derive_transform((method,), KEY.for_model(PROTECTION_ID), 4)
    bound = rewrite(copy.deepcopy(plain), spec, 4)
    fold(bound, TransformSet(transform), Normalization())
    scene = scene_of(bound, transform, method)
    path = tmp_path / "a.safetensors"
    scene = with_ancestor(scene, path, plain.state_dict(), None)
    public = scene.model.model_copy(update={"stem": "blocks", "batch_norm": batch_norm})
    (outcome,) = run_all(ATTACK, dataclasses.replace(scene, model=public))
    keyed_counts = scene.referee(bound, keyed(TransformSet(transform)))
    assert abs(TASK.score_of(outcome.counts) - TASK.score_of(keyed_counts)) < 0.01
    assert outcome.notes == ()


def test_without_an_ancestor_it_says_why() -> None:
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels), channels)
    assert "no public ancestor" in ATTACK.impossible(scene)


def test_a_stem_into_which_nothing_was_folded_is_not_matched(tmp_path) -> None:
    model = plain_features()
    scene = scene_of(model, shf_transform(2), "shf")
    scene = with_ancestor(
        scene, tmp_path / "a.safetensors", model.state_dict(), PlantedFeatures
    )
    assert "no layer reads whole blocks" in ATTACK.impossible(scene)


def test_an_assignment_is_one_to_one_and_the_best() -> None:
    similarity = np.array([[1.0, 0.9, 0.0], [0.9, 0.1, 0.0], [np.nan, 0.0, 0.2]])
    assert assign(similarity).tolist() == [1, 0, 2]


def test_the_cosine_of_zeros_is_zero() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert cosines(rows, np.array([[2.0, 0.0], [0.0, 3.0]])).tolist() == [
        [0.0, 0.0],
        [1.0, 0.0],
    ]


def test_a_planted_feature_map_knows_the_answer() -> None:
    """Or the scores above would say nothing."""
    channels = channel_permutation()
    scene = scene_of_features(plain_features(), channels)
    assert TASK.score_of(scene.referee(scene.stolen.model.eval(), NO_KEY)) > 0.95
    assert len(channels.order) == CHANNELS
