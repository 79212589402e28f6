"""A lifted stem shows its key; a stem that is none, or was untied, does not."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.lifted import structure_of
from mlguard.audit.attacks.weights_only import WeightsOnly
from mlguard.models import NO_KEY, Normalization, keyed
from mlguard.models.stem import find_stem, prepare_stem
from mlguard.protect.fold import fold
from mlguard.transforms import TransformSet, derive_transform
from tests.audits import KEY, PROTECTION_ID
from tests.planted import Noise, colour_images, np_transform, scene_of

ATTACK = WeightsOnly(seed=0, images=8)
METHODS = [("shf",), ("np",), ("shf", "np"), ("np", "shf")]


class Strided(nn.Module):
    """A convolution with stride 2 and a norm, which is all that is read here."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.stem = nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(24, momentum=None)
            self.relu = nn.ReLU()
            self.mix = nn.Conv2d(24, 24, 1)
            self.second = nn.BatchNorm2d(24, momentum=None)
            self.head = nn.Conv2d(24, 2, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.relu(self.norm(self.stem(pixels)))
        scores = self.head(self.second(self.mix(features)))
        return nn.functional.interpolate(scores, scale_factor=2)


def tinted(number: int, *, seed: int) -> Tensor:
    """Colours that do not look alike, smooth in space as photographs are."""
    images = colour_images(number, seed=seed).images.float()
    smooth = nn.functional.avg_pool2d(images, 5, stride=1, padding=2)
    spread = torch.tensor([1.0, 0.6, 0.3]).view(1, 3, 1, 1)
    middle = torch.tensor([30.0, 60.0, 120.0]).view(1, 3, 1, 1)
    return (smooth * spread + middle).clamp(0, 255).to(torch.uint8)


def bound_scene(methods: tuple[str, ...], size: int) -> tuple[Scene, TransformSet]:
    model = Strided()
    images = tinted(32, seed=1)
    with torch.no_grad():
        model.train()(Normalization()(images / 255))
        model.eval()
        model.head.bias -= model(Normalization()(images / 255)).mean((0, 2, 3))
    transform = derive_transform(methods, KEY.for_model(PROTECTION_ID), size)
    prepare_stem(model, size)
    transforms = TransformSet(transform)
    fold(model, transforms, Normalization())
    scene = scene_of(model, transform, *methods)
    pool = dataclasses.replace(scene.pool, images=tinted(32, seed=2))
    return dataclasses.replace(scene, build=Strided, pool=pool), transforms


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("methods", METHODS, ids="+".join)
def test_the_whole_key_is_read_off_a_lifted_stem(methods, size: int) -> None:
    scene, transforms = bound_scene(methods, size)
    (outcome,) = ATTACK.run(scene)
    correct = scene.referee(scene.stolen.model, keyed(transforms))
    assert np.array_equal(outcome.counts, correct)
    assert not np.array_equal(correct, scene.referee(scene.stolen.model, NO_KEY))
    assert outcome.converged
    assert (outcome.rung, outcome.labels) == ("T3", 0)


def test_structure_costs_few_keys() -> None:
    scene, _ = bound_scene(("shf",), 4)
    (outcome,) = ATTACK.run(scene)
    assert outcome.queries <= 8 * 6 * 4 * 4 * 4  # images, options, classes, sweeps, …


def test_a_stem_that_was_untied_does_not_fit() -> None:
    scene, _ = bound_scene(("shf",), 4)
    model = copy.deepcopy(scene.stolen.model)
    stem = find_stem(model).layer
    with torch.no_grad():
        stem.windows.weight.add_(torch.rand_like(stem.windows.weight))
    moved = dataclasses.replace(scene.stolen, model=model)
    (outcome,) = ATTACK.run(dataclasses.replace(scene, stolen=moved))
    assert not outcome.converged
    plain = Strided().stem
    assert structure_of(stem, plain, moved=True).zeros < 0.9


def test_a_model_without_a_lifted_stem_is_left_out() -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    assert "no lifted stem" in ATTACK.impossible(scene)
