"""Transformed images alone: what nature put into them gives a key away."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from mlguard.audit.attacks.base import Pool, Scene, SplitReferee
from mlguard.audit.attacks.search.guesses import GuessSpace
from mlguard.audit.attacks.transformed_images import (
    BYTE_MAX,
    TransformedImages,
    candidates,
    values_of,
)
from mlguard.models import Normalization, keyed
from mlguard.models.conditions import TorchTransform, cut, join
from mlguard.transforms import (
    Compose,
    FormatPreserving,
    TransformSet,
    derive_transform,
)
from tests.audits import KEY, PROTECTION_ID, Pairs, run_all
from tests.planted import (
    TASK,
    Noise,
    np_transform,
    planted,
    scene_of,
    shf_transform,
)

ATTACK = TransformedImages(seed=0, images=16)
TABLE = np.arange(256, dtype=np.int32)[::-1] * 3 + 1
SIDE = 32  # pixels


def natural(number: int, *, seed: int) -> Pairs:
    """Smooth in space and alike in colour, as photographs are; bright is class 1."""
    generator = torch.Generator().manual_seed(seed)
    grey = torch.randn(number, 1, SIDE + 8, SIDE + 8, generator=generator)
    tint = torch.randn(number, 3, SIDE + 8, SIDE + 8, generator=generator)
    spread = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1)
    slope = torch.linspace(-1, 1, SIDE).view(1, 1, SIDE, 1)
    smooth = nn.functional.avg_pool2d(grey + spread * tint, 9, stride=1)
    images = (95 + 500 * smooth + 10 * slope).clamp(0, 255)
    masks = (images.mean(1) > 127).to(torch.uint8)
    return Pairs(images.to(torch.uint8), masks, task=TASK)


class Bright(nn.Module):
    """Undoes a key, knows what is bright, and remembers what it saw."""

    def __init__(self, transform) -> None:
        super().__init__()
        self.undo = planted(transform)
        self.norm = nn.BatchNorm2d(3 * transform.block_size**2, momentum=None)
        self.mixed = nn.BatchNorm2d(24, affine=False, momentum=None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.mix = nn.Conv2d(3 * transform.block_size**2, 24, 1)

    def forward(self, pixels):
        size, (height, width) = self.undo.block_size, pixels.shape[-2:]
        blocks = cut(pixels, size) @ self.undo.matrix.T
        grid = blocks.unflatten(1, (height // size, -1)).permute(0, 3, 1, 2)
        self.mixed(self.mix(self.norm(grid)).relu())
        score = join(blocks, size, (height, width)).mean(1)
        return torch.stack([-score, score], dim=1)


def natural_scene(transform, *methods: str) -> Scene:
    model = Bright(transform)
    images = natural(32, seed=1).images
    with torch.no_grad():
        model.train()(Normalization()(TorchTransform(transform)(images)))
    scene = scene_of(model, transform, *methods)
    own = natural(32, seed=2)
    return dataclasses.replace(
        scene,
        pool=Pool(own.images, own.masks, TASK.ignore_index),
        referee=SplitReferee(scene.stolen, natural(8, seed=3), 8),
    )


@pytest.mark.parametrize("size", [2, 4])
def test_the_mask_of_np_is_in_the_correlations(size: int) -> None:
    scene = natural_scene(np_transform(size), "np")
    (outcome,) = run_all(ATTACK, scene)
    assert TASK.score_of(outcome.counts) > 0.95
    assert (outcome.rung, outcome.images, outcome.labels) == ("T6", 16, 0)


def test_the_order_of_shf_is_in_the_covariances() -> None:
    transform = shf_transform(4)
    own, others = (natural(16, seed=seed).images.numpy() for seed in (2, 5))
    blocks = [values_of(one, 4) for one in (own / BYTE_MAX, transform.apply(others))]
    found = candidates(GuessSpace(("shf",), 4), *blocks, seed=0)
    assert max((guess[0] == transform.order).mean() for guess in found) == 1.0


def test_the_order_of_shf_is_not_in_images_of_noise() -> None:
    """The twin: photographs give it away, not the comparison itself."""
    transform = shf_transform(4)
    draw = np.random.default_rng(0)
    own, others = (draw.integers(0, 256, (2, 16, 3, SIDE, SIDE))).astype(np.uint8)
    blocks = [values_of(one, 4) for one in (own / BYTE_MAX, transform.apply(others))]
    found = candidates(GuessSpace(("shf",), 4), *blocks, seed=0)
    assert max((guess[0] == transform.order).mean() for guess in found) < 0.5


def test_the_mask_of_ffx_is_in_the_range() -> None:
    transform = FormatPreserving(2, np_transform().mask, TABLE)
    own = natural(32, seed=2)
    pool = Pool(own.images, own.masks, TASK.ignore_index)
    scene = dataclasses.replace(scene_of(Noise(), transform, "ffx"), pool=pool)
    (outcome,) = run_all(ATTACK, scene)
    correct = scene.referee(scene.stolen.model, keyed(TransformSet(transform)))
    assert np.array_equal(outcome.counts, correct)
    assert outcome.notes == ("table-assumed-known",)


def test_weights_of_noise_give_nothing() -> None:
    (outcome,) = run_all(ATTACK, scene_of(Noise(), np_transform(), "np"))
    assert TASK.score_of(outcome.counts) < 0.6


def test_the_originals_are_not_looked_at() -> None:
    """The plain images of the comparison are others than the transformed ones."""
    scene = natural_scene(np_transform(), "np")
    seen = []
    pair = scene.leaks.pair
    scene.leaks.pair = lambda image: seen.append(image) or pair(image)
    next(run_all(ATTACK, scene))
    own = {image.tobytes() for image in scene.pool.images[:16].numpy()}
    assert len(seen) == 16
    assert not own & {image.tobytes() for image in seen}


def test_what_it_cannot_take_apart_is_left_out() -> None:
    ffx = FormatPreserving(2, np_transform().mask, TABLE)
    scene = scene_of(Noise(), Compose([shf_transform(), ffx]), "shf", "ffx")
    assert "not supported" in ATTACK.impossible(scene)
    large = derive_transform(("shf",), KEY.for_model(PROTECTION_ID), 16)
    assert "takes too long" in ATTACK.impossible(scene_of(Noise(), large, "shf"))
