"""Maps between stolen and public weights are undone in models, or refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlguard.audit.attacks import Attack, Scene
from mlguard.audit.attacks.ancestor.activations import ActivationMatching, Imitation
from mlguard.audit.attacks.ancestor.matching import (
    DirectionMatching,
    MixtureRegression,
    RotationMatching,
    TwoSidedMatching,
)
from mlguard.audit.attacks.ancestor.repairs import LowRankRemoval, OutlierReplacement
from mlguard.audit.findings import BUDGETS
from mlguard.models import NO_KEY
from tests.audits import run_all
from tests.planted import (
    CHANNELS,
    TASK,
    PlantedFeatures,
    channel_permutation,
    plain_features,
    planted_features,
    scene_of_features,
    with_ancestor,
)

MATCHING = (DirectionMatching, RotationMatching, TwoSidedMatching, MixtureRegression)
REPAIRS = (OutlierReplacement, LowRankRemoval)
IMITATING = ActivationMatching(seed=0, steps=150, rates=(3e-2,))


def attack_of(kind: type[Attack]) -> Attack:
    return kind.within(BUDGETS["quick"], seed=0)


def descended(model: nn.Module, folder: Path, **ancestor: torch.Tensor) -> Scene:
    """A scene of stolen weights whose public ancestor is the plain model."""
    scene = scene_of_features(model, channel_permutation())
    weights = plain_features().state_dict() | ancestor
    return with_ancestor(scene, folder / "a.safetensors", weights, PlantedFeatures)


def score_of(kind: type[Attack], scene: Scene) -> float:
    (outcome,) = run_all(attack_of(kind), scene)
    return TASK.score_of(outcome.counts)


@pytest.mark.parametrize("kind", [*MATCHING, ActivationMatching, *REPAIRS])
def test_a_permuted_map_is_undone_without_an_image(tmp_path, kind) -> None:
    channels = channel_permutation(signs=True)
    scene = descended(planted_features(channels, drift=0.03), tmp_path)
    assert TASK.score_of(scene.referee(scene.stolen.model, NO_KEY)) < 0.8
    assert score_of(kind, scene) > 0.9


def test_a_rotated_map_is_turned_back_and_pairing_finds_nothing(tmp_path) -> None:
    scene = descended(rotated(), tmp_path)
    assert score_of(RotationMatching, scene) > 0.9
    assert score_of(DirectionMatching, scene) < 0.8


def rotated() -> PlantedFeatures:
    """A map mixed in a way that no pairing of channels undoes."""
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS)))[0]
    model = plain_features()
    with torch.no_grad():
        columns = model.mix.weight[:, :, 0, 0]
        columns.copy_(columns @ torch.from_numpy(turned).float().T)
    return model.eval()


def test_a_map_is_learned_from_feature_maps_without_labels(tmp_path) -> None:
    scene = descended(rotated(), tmp_path)
    apart = Imitation(scene).apart(scene.pool.images[:8], NO_KEY)
    (outcome,) = run_all(IMITATING, scene)
    assert float(apart) > 0.1
    assert (outcome.labels, outcome.images) == (0, 16)
    assert TASK.score_of(outcome.counts) > 0.9


def test_feature_maps_of_another_model_teach_nothing(tmp_path) -> None:
    unrelated = torch.randn(plain_features().mix.weight.shape)
    scene = descended(rotated(), tmp_path, **{"mix.weight": unrelated})
    (outcome,) = run_all(IMITATING, scene)
    assert TASK.score_of(outcome.counts) < 0.85


def test_weights_changed_by_much_are_put_back(tmp_path) -> None:
    model = plain_features()
    with torch.no_grad():
        model.mix.weight.add_(1e-3 * torch.randn_like(model.mix.weight))
        model.mix.weight.view(-1)[:: len(model.mix.weight)] += 3.0
    scene = descended(model.eval(), tmp_path)
    plain = TASK.score_of(scene.referee(scene.stolen.model, NO_KEY))
    assert score_of(OutlierReplacement, scene) > max(0.9, plain + 0.1)


def test_a_cover_of_low_rank_is_taken_away(tmp_path) -> None:
    model = plain_features()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        weight = model.mix.weight[:, :, 0, 0]
        weight.add_(0.003 * torch.randn(weight.shape))
        weight.add_(2.0 * torch.randn(len(weight), 1) @ torch.randn(1, CHANNELS))
    scene = descended(model.eval(), tmp_path)
    plain = TASK.score_of(scene.referee(scene.stolen.model, NO_KEY))
    assert score_of(LowRankRemoval, scene) > max(0.9, plain + 0.1)


@pytest.mark.parametrize("kind", MATCHING)
def test_unrelated_weights_are_not_opened(tmp_path, kind) -> None:
    channels = channel_permutation()
    unrelated = torch.randn(plain_features().mix.weight.shape)
    scene = descended(planted_features(channels), tmp_path, **{"mix.weight": unrelated})
    assert score_of(kind, scene) < 0.85
    (outcome,) = run_all(attack_of(DirectionMatching), scene)
    assert outcome.notes == ("ancestor-unlike",)


@pytest.mark.parametrize("kind", [*MATCHING, ActivationMatching, *REPAIRS])
def test_without_an_ancestor_it_says_why(kind) -> None:
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels), channels)
    assert "no public ancestor" in attack_of(kind).impossible(scene)


def test_nothing_to_compare_is_said_in_words(tmp_path) -> None:
    scene = descended(planted_features(channel_permutation()), tmp_path)
    spec = scene.spec.model_copy(update={"layers": ("head",)})
    scene = dataclasses.replace(scene, spec=spec)
    assert "lacks the layer after it" in attack_of(DirectionMatching).impossible(scene)
