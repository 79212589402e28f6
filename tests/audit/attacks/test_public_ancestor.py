"""Weights with a public ancestor give the key away; weights without one do not."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mlguard import recipe
from mlguard.audit.attacks.assignment import assign, cosines
from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.public_ancestor import PublicAncestor
from mlguard.models import NO_KEY, Normalization, keyed
from tests.planted import (
    CHANNELS,
    TASK,
    channel_permutation,
    np_transform,
    plain_features,
    planted_features,
    planted_images,
    scene_of,
    scene_of_features,
    shf_transform,
)

ATTACK = PublicAncestor(seed=0)
MIDDLE = (0.5, 0.5, 0.5)


def with_ancestor(scene: Scene, path: Path, weights: dict[str, Tensor]) -> Scene:
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    spec = recipe.Model(name="fcn_small", weights=str(path), mean=MIDDLE, std=MIDDLE)
    return dataclasses.replace(scene, model=spec)


@pytest.mark.parametrize("signs", [False, True])
def test_a_permuted_layer_that_drifted_is_matched(tmp_path, signs: bool) -> None:
    channels = channel_permutation(signs=signs)
    scene = scene_of_features(planted_features(channels, drift=0.03), channels)
    scene = with_ancestor(
        scene, tmp_path / "a.safetensors", plain_features().state_dict()
    )
    assert ATTACK.impossible(scene) == ""
    (outcome,) = ATTACK.run(scene)
    assert TASK.score_of(outcome.counts) > 0.9
    assert TASK.score_of(scene.referee(scene.stolen.model, NO_KEY)) < 0.8
    assert (outcome.rung, outcome.images, outcome.notes) == ("T5", 0, ())


def test_unrelated_weights_match_nothing_and_it_is_said(tmp_path) -> None:
    channels = channel_permutation(signs=True)
    scene = scene_of_features(planted_features(channels), channels)
    unrelated = plain_features()
    with torch.random.fork_rng():
        torch.manual_seed(77)
        nn.init.normal_(unrelated.mix.weight)
    scene = with_ancestor(scene, tmp_path / "a.safetensors", unrelated.state_dict())
    (outcome,) = ATTACK.run(scene)
    assert TASK.score_of(outcome.counts) < 0.8
    assert outcome.notes == ("ancestor-unlike",)


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
@pytest.mark.parametrize("method", ["shf", "np"])
def test_a_key_folded_into_a_patch_stem_is_matched(
    tmp_path, method: str, block_size: int
) -> None:
    plain = centred(PatchModel(block_size))
    bound = copy.deepcopy(plain)
    kind = {"shf": shf_transform, "np": np_transform}[method]
    transform = kind(block_size)
    fold(bound.stem, transform, method)
    scene = scene_of(bound, transform, method)
    scene = with_ancestor(scene, tmp_path / "a.safetensors", plain.state_dict())
    (outcome,) = ATTACK.run(scene)
    correct = scene.referee(bound, keyed_of(transform))
    assert np.array_equal(outcome.counts, correct)
    assert not np.array_equal(correct, scene.referee(bound, NO_KEY))


def centred(model: PatchModel) -> PatchModel:
    """So that both classes are answered."""
    images = planted_images(8, seed=3, block_size=model.size // 2).images
    with torch.no_grad():
        model.head.bias -= model(Normalization()(images / 255)).mean((0, 2, 3))
    return model


def fold(stem: nn.Conv2d, transform, method: str) -> None:
    """Make the stem read transformed blocks; its weight is made of 2 x 2 of them."""
    size = transform.block_size
    with torch.no_grad():
        weight = stem.weight.clone()
        blocks = weight.view(len(weight), 3, 2, size, 2, size)
        columns = blocks.permute(0, 2, 4, 3, 5, 1).reshape(len(weight), 4, -1)
        if method == "shf":
            columns = columns[..., torch.from_numpy(transform.order.copy())]
        else:
            columns = columns * torch.from_numpy(1.0 - 2 * transform.mask).float()
        back = columns.view(len(weight), 2, 2, size, size, 3)
        stem.weight.copy_(back.permute(0, 5, 1, 3, 2, 4).reshape(weight.shape))


def keyed_of(transform):
    from mlguard.transforms import TransformSet

    return keyed(TransformSet(transform))


def test_without_an_ancestor_it_says_why() -> None:
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels), channels)
    assert "no public ancestor" in ATTACK.impossible(scene)


def test_a_stem_into_which_nothing_was_folded_is_not_matched(tmp_path) -> None:
    model = plain_features()
    scene = scene_of(model, shf_transform(2), "shf")
    scene = with_ancestor(scene, tmp_path / "a.safetensors", model.state_dict())
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
