"""A lifted stem shows its key; a stem that is none, or was untied, does not."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.stem.lifted import structure_of
from mlguard.audit.attacks.stem.stem_fit import StemFit, too_wide
from mlguard.audit.attacks.weights_only import MAX_REST, WeightsOnly
from mlguard.data.draws import Draws
from mlguard.models import NO_KEY, Normalization, keyed
from mlguard.models.binding import LiftedStem, find_stem, prepare_stem
from mlguard.protect.binding import fold
from mlguard.transforms import TransformSet, derive_transform
from tests.audits import KEY, PROTECTION_ID, run_all
from tests.planted import Noise, colour_images, np_transform, scene_of

ATTACK = WeightsOnly(seed=0, images=8)
FREE = 1e-5  # variance below which images leave a direction to noise
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
    (outcome,) = run_all(ATTACK, scene)
    correct = scene.referee(scene.stolen.model, keyed(transforms))
    assert np.array_equal(outcome.counts, correct)
    assert not np.array_equal(correct, scene.referee(scene.stolen.model, NO_KEY))
    assert outcome.converged
    assert (outcome.rung, outcome.labels) == ("T3", 0)


def test_structure_costs_few_keys() -> None:
    scene, _ = bound_scene(("shf",), 4)
    (outcome,) = run_all(ATTACK, scene)
    assert outcome.queries <= 8 * 6 * 4 * 4 * 4  # images, options, classes, sweeps, …


def test_a_stem_that_is_none_any_more_does_not_fit() -> None:
    scene, _ = bound_scene(("shf",), 2)
    model = copy.deepcopy(scene.stolen.model)
    stem = find_stem(model).layer
    with torch.no_grad():
        stem.windows.weight.add_(torch.randn_like(stem.windows.weight))
    moved = dataclasses.replace(scene.stolen, model=model)
    attack = dataclasses.replace(ATTACK, starts=1)
    (outcome,) = run_all(attack, dataclasses.replace(scene, stolen=moved))
    plain = Strided().stem
    assert structure_of(stem, plain, moved=True).zeros < 0.9
    assert not outcome.converged


@torch.no_grad()
def blurred(scene: Scene, transforms: TransformSet, share: float) -> Scene:
    """The same answers on images, from weights whose zeros and ties are gone.

    Noise is added where images, as the key makes them, hardly are.
    """
    model = copy.deepcopy(scene.stolen.model)
    stem = find_stem(model).layer
    side = stem.block_size * (stem.before + 1 + stem.after)
    shown = Normalization()(keyed(transforms).image(tinted(64, seed=5))).double()
    around = stem.before * stem.block_size, stem.after * stem.block_size
    padded = nn.functional.pad(shown, around * 2).unfold(2, side, stem.block_size)
    windows = padded.unfold(3, side, stem.block_size).permute(0, 2, 3, 1, 4, 5)
    seen = windows.flatten(0, 2).flatten(1)
    free = torch.eye(seen.shape[1]) + torch.cov(seen.T) / share
    weight = stem.windows.weight
    noise = torch.randn(weight.shape, generator=torch.manual_seed(1)).double()
    noise = weight.abs().max() * noise.flatten(1) @ torch.linalg.inv(free)
    weight += noise.view_as(weight)
    stem.windows.bias -= (noise @ seen.mean(0)).float()
    return dataclasses.replace(
        scene, stolen=dataclasses.replace(scene.stolen, model=model)
    )


@pytest.mark.parametrize(("method", "size"), [("shf", 2), ("np", 4)])
def test_noise_that_images_do_not_show_does_not_hide_the_key(
    method: str, size: int
) -> None:
    scene, transforms = bound_scene((method,), size)
    noisy, moved = blurred(scene, transforms, FREE), method == "shf"
    stem, plain = find_stem(noisy.stolen.model).layer, Strided().stem
    structure = structure_of(stem, plain, moved=moved)
    assert structure.zeros < 0.9
    fit = StemFit.of(stem, plain, tinted(64, seed=7), Normalization())
    found = fit.read(
        structure.pixels * 3 + structure.colours,
        moved=moved,
        inverted=not moved,
        rounds=2,
        draws=Draws(0),
    )
    assert found.rest < MAX_REST * fit.usual_rest(Draws(1))
    if moved:
        assert np.array_equal(found.order // 3, transforms.image.order // 3)
    else:  # each colour up to its sign
        signs = np.where(transforms.image.mask, -1, 1) * found.signs
        assert len(np.unique(signs.reshape(-1, 3), axis=0)) == 1


def test_a_blurred_stem_is_read_by_the_attack() -> None:
    scene, transforms = bound_scene(("shf",), 2)
    attack = dataclasses.replace(ATTACK, images=32, starts=2)
    (outcome,) = run_all(attack, blurred(scene, transforms, FREE))
    assert outcome.converged


def test_that_noise_changes_little_of_what_images_give() -> None:
    """The twin of the test above: it is not the noise that gives the key away."""
    scene, transforms = bound_scene(("shf",), 4)
    noisy, pixels = blurred(scene, transforms, FREE), keyed(transforms)
    given = Normalization()(pixels.image(tinted(8, seed=6)))
    with torch.inference_mode():
        before, after = (
            find_stem(one.stolen.model).layer(given) for one in (scene, noisy)
        )
    assert float((before - after).std() / before.std()) < 0.3


def test_gains_of_single_steps_are_what_the_rest_gains() -> None:
    scene, _ = bound_scene(("np", "shf"), 4)
    stem, plain = find_stem(scene.stolen.model).layer, Strided().stem
    fit = StemFit.of(stem, plain, scene.pool.images, Normalization())
    rng = np.random.default_rng(0)
    order, signs = rng.permutation(48), rng.choice([-1.0, 1.0], 48)

    def rest(order: np.ndarray, signs: np.ndarray) -> float:
        weights = fit.weights * np.outer(signs, signs)[:, :, None]
        return float(np.vdot(fit.form[np.ix_(order, order)], weights))

    swaps, flips = fit._gains(order, signs)
    swapped, flipped = order.copy(), signs.copy()
    swapped[[3, 40]] = order[[40, 3]]
    flipped[7] *= -1
    assert swaps[3, 40] == pytest.approx(rest(swapped, signs) - rest(order, signs))
    assert flips[7] == pytest.approx(rest(order, flipped) - rest(order, signs))


def test_a_stem_that_is_wide_is_not_read_beyond_its_zeros() -> None:
    assert too_wide(LiftedStem(4, block_size=8, ratio=4, before=1, after=0))
    assert not too_wide(LiftedStem(4, block_size=4, ratio=2, before=1, after=1))


def test_a_model_without_a_lifted_stem_is_left_out() -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    assert "no lifted stem" in ATTACK.impossible(scene)
