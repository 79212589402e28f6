"""Keys found along a gradient: planted ones, and nothing where there is nothing."""

import numpy as np
import pytest
import torch

from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.gradient import Gradient
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.search.guesses import GuessSpace
from mlguard.audit.attacks.search.relaxed import SoftImage, SoftKey, SoftOrder
from mlguard.audit.attacks.training.adapters import Adapters
from mlguard.audit.attacks.training.learning import BATCH, Lesson
from mlguard.models import NO_KEY, Condition
from mlguard.models.conditions import TorchTransform
from mlguard.transforms import Compose, FormatPreserving
from tests.audits import run_all
from tests.planted import (
    TASK,
    Noise,
    channel_permutation,
    np_transform,
    planted,
    planted_features,
    scene_of,
    scene_of_features,
    shf_transform,
)

NP, SHF = np_transform(), shf_transform()
TABLE = np.arange(256, dtype=np.int32)[::-1] * 3 + 1
ATTACK = Gradient(seed=0, unlabelled=16, labelled=8, steps=150, rates=(2e-2,))


def found(scene: Scene, attack: Gradient = ATTACK) -> dict[str, float]:
    return {one.variant: TASK.score_of(one.counts) for one in run_all(attack, scene)}


@pytest.mark.parametrize(
    ("transform", "method"), [(NP, "np"), (SHF, "shf")], ids=["np", "shf"]
)
def test_a_softened_key_finds_a_planted_one(transform, method: str) -> None:
    scene = scene_of(planted(transform), transform, method)
    before = TASK.score_of(scene.referee(scene.stolen.model, NO_KEY))
    scores = found(scene)
    assert before < 0.6
    assert scores["softened key, cross-entropy"] > 0.9


def test_a_planted_permutation_of_channels_is_undone() -> None:
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels), channels)
    before = TASK.score_of(scene.referee(scene.stolen.model, NO_KEY))
    scores = found(scene)
    assert before < 0.7
    assert scores["softened key, cross-entropy"] > 0.85


@pytest.mark.parametrize("signs", [False, True])
def test_without_labels_the_statistics_are_matched(signs: bool) -> None:
    """One layer's statistics need not single out the key; many layers' may."""
    channels = channel_permutation(signs=signs)
    scene = scene_of_features(planted_features(channels), channels)
    scene.stolen.model.requires_grad_(False)
    lesson = Lesson(subset(scene.pool, 8), 60, 0, scene.tick)
    adapters = Adapters.of(scene)
    parts = (scene.stolen, adapters.parameters(), adapters.condition, 2e-2)
    before = lesson.look(scene.stolen, adapters.condition, "batch-norm")
    lesson.teach(*parts, objective="batch-norm")
    after = lesson.look(scene.stolen, adapters.condition, "batch-norm")
    assert after < 0.2 * before


def test_weights_of_noise_give_nothing() -> None:
    scores = found(scene_of(Noise(), NP, "np"))
    assert max(scores.values()) < 0.7


def test_rungs_and_images_are_said() -> None:
    attack = Gradient(seed=0, unlabelled=6, labelled=4, steps=2)
    outcomes = list(run_all(attack, scene_of(planted(NP), NP, "np")))
    assert [(one.rung, one.images, one.labels) for one in outcomes] == [
        ("T3", 6, 0),
        ("T4", 4, 4),
        ("T3", 6, 0),
    ]
    assert [one.queries for one in outcomes] == [2 * BATCH, 2 * BATCH, 4 * BATCH]


def test_the_same_seed_finds_the_same() -> None:
    def counts(seed: int) -> list[np.ndarray]:
        attack = Gradient(seed=seed, unlabelled=4, labelled=4, steps=3)
        return [
            one.counts for one in run_all(attack, scene_of(planted(SHF), SHF, "shf"))
        ]

    first, again, other = counts(0), counts(0), counts(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_chain_with_ffx_has_no_softened_key() -> None:
    ffx = FormatPreserving(2, NP.mask, TABLE)
    scene = scene_of(Noise(), Compose([SHF, ffx]), "shf", "ffx")
    attack = Gradient(seed=0, unlabelled=2, labelled=2, steps=1)
    assert "not supported" in attack.left_out(scene)[0]
    assert set(found(scene, attack)) == {"free inverse, batch-norm"}


def test_a_softened_order_has_rows_and_columns_that_sum_to_one() -> None:
    soft = SoftOrder(12)
    for temperature in (1.0, 0.05):
        soft.temperature = temperature
        matrix = soft.matrix()
        assert torch.allclose(matrix.sum(0), torch.ones(12), atol=1e-4)
        assert torch.allclose(matrix.sum(1), torch.ones(12), atol=1e-4)


@pytest.mark.parametrize("methods", [("shf",), ("np",), ("ffx",), ("np", "shf")])
def test_a_hard_softened_key_does_what_the_key_does(methods) -> None:
    space = GuessSpace(methods, 2, TABLE if "ffx" in methods else None)
    soft = SoftImage(space)
    with torch.no_grad():
        for row in soft.rows:
            row.numbers.copy_(100 * torch.randn_like(row.numbers).round())
            if isinstance(row, SoftOrder):
                row.numbers.copy_(100 * torch.eye(12)[torch.randperm(12)])
            else:
                row.numbers.copy_(100 * (torch.randperm(12) < 6).float() - 50)
    images = scene_of(Noise(), NP, "np").pool.images[:2]
    hard = TorchTransform(soft.transforms().image)
    assert torch.allclose(soft(images), hard(images), atol=1e-5)


def test_a_cooling_key_becomes_hard() -> None:
    scene = scene_of(planted(SHF), SHF, "shf")
    key = SoftKey(scene)
    key.cool(0.0)
    warm = key.image.rows[0].temperature
    key.cool(1.0)
    assert warm > 10 * key.image.rows[0].temperature


def test_rounding_keeps_signed_permutations_and_says_what_they_do() -> None:
    scene = scene_of(planted(NP), NP, "np")
    adapters = Adapters.of(scene)
    with torch.no_grad():
        signs = torch.from_numpy(1.0 - 2.0 * NP.mask).float()
        noise = 0.1 * torch.randn(12, 12)
        adapters.image.matrix.copy_(torch.diag(signs) + noise)
    images = scene.pool.images[:2]
    rounded = adapters.rounded().image
    assert torch.allclose(rounded(images), TorchTransform(NP)(images), atol=1e-5)


def test_an_objective_is_lower_for_the_correct_key() -> None:
    scene = scene_of(planted(NP), NP, "np")
    lesson = Lesson(scene.pool, 1, 0, scene.tick)
    keyed = Condition(TorchTransform(NP))
    for objective in ("batch-norm", "cross-entropy"):
        right = lesson.look(scene.stolen, keyed, objective)
        assert right < lesson.look(scene.stolen, NO_KEY, objective), objective
