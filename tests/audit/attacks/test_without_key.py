"""Tries without a key that are less plain than the plain image."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.without_key import WithoutKey, gain_matched
from mlguard.models import NO_KEY
from mlguard.models.conditions import plain
from mlguard.transforms import FormatPreserving
from tests.audits import run_all
from tests.planted import (
    TASK,
    Noise,
    channel_permutation,
    np_transform,
    plain_features,
    planted,
    scene_of,
    scene_of_features,
    shf_transform,
)

NP, SHF = np_transform(), shf_transform()
TABLE = np.arange(256, dtype=np.int32)[::-1] * 3 + 1
ATTACK = WithoutKey(seed=0, tries=2)


class Inverted(nn.Module):
    """Works on inverted images alone: a careless model under `np`."""

    def forward(self, pixels: Tensor) -> Tensor:
        score = -pixels.mean(1)
        middle = score.mean((1, 2), keepdim=True)
        return torch.stack([middle - score, score - middle], dim=1)


def test_a_model_that_works_on_inverted_images_is_found_out() -> None:
    scene = scene_of(Inverted(), np_transform(4), "np")
    plainly = TASK.score_of(scene.referee(Inverted(), NO_KEY))
    found = {one.variant: TASK.score_of(one.counts) for one in run_all(ATTACK, scene)}
    assert found["gain-matched"] > plainly + 0.2


def test_a_planted_key_gives_nothing_to_those_who_do_not_search() -> None:
    outcomes = list(run_all(ATTACK, scene_of(planted(SHF), SHF, "shf")))
    assert [(one.variant, one.rung) for one in outcomes] == [
        ("gain-matched", "T0"),
        ("another method", "T1"),
        ("another block size", "T1"),
    ]
    assert all(TASK.score_of(one.counts) < 0.7 for one in outcomes)
    assert {(one.images, one.labels) for one in outcomes} == {(0, 0)}


@pytest.mark.parametrize(
    ("transform", "method", "expected"),
    [
        (NP, "np", lambda x: 1 - x),
        (FormatPreserving(2, NP.mask, TABLE), "ffx", lambda x: x * 255 / 766),
    ],
    ids=["np", "ffx"],
)
def test_gain_matched_images(transform, method: str, expected) -> None:
    scene = scene_of(Noise(), transform, method)
    images = scene.pool.images[:2]
    (form,) = gain_matched(scene)
    assert torch.allclose(form(images), expected(plain(images)), atol=1e-6)


def test_gain_matched_blocks_keep_their_mean_and_nothing_else() -> None:
    scene = scene_of(Noise(), SHF, "shf")
    (form,) = gain_matched(scene)
    images = scene.pool.images[:2]
    block = form(images)[0, :, :2, :2]
    assert torch.allclose(block, plain(images)[0, :, :2, :2].mean().expand_as(block))


def test_a_key_that_leaves_images_alone_is_left_out() -> None:
    channels = channel_permutation()
    scene = scene_of_features(plain_features(), channels)
    assert "does not act on images" in ATTACK.impossible(scene)


def test_the_same_seed_tries_the_same_keys() -> None:
    def counts(seed: int) -> list[np.ndarray]:
        attack = WithoutKey(seed=seed, tries=1)
        return [one.counts for one in run_all(attack, scene_of(planted(NP), NP, "np"))]

    first, again, other = counts(0), counts(0), counts(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
