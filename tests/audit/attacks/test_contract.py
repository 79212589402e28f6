"""What every attack promises, checked on every one of them, from one table."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mlguard.audit.attacks import ATTACKS, Attack, Scene
from mlguard.audit.attacks.base import Variant
from mlguard.audit.findings import Outcome
from mlguard.recipe import Model
from tests.audits import PATIENT, run_all
from tests.planted import (
    Noise,
    PlantedFeatures,
    channel_permutation,
    np_transform,
    plain_features,
    planted,
    planted_features,
    scene_of,
    scene_of_features,
    shf_transform,
    with_ancestor,
)

WIDE = dataclasses.replace(PATIENT, guesses=2000)  # than the keys of the smallest space


def images(folder: Path) -> Scene:
    """The key inverts positions of images."""
    transform = np_transform()
    return scene_of(planted(transform), transform, "np")


def shuffled(folder: Path) -> Scene:
    transform = shf_transform()
    return scene_of(planted(transform), transform, "shf")


def features(folder: Path) -> Scene:
    """The key permutes a feature map; the architecture is public."""
    channels = channel_permutation()
    model = planted_features(channels)
    scene = scene_of_features(model, channels)
    return dataclasses.replace(
        scene, model=Model(name="fcn_small"), build=lambda: planted_features(channels)
    )


def noise(folder: Path) -> Scene:
    """There is nothing to steal."""
    return scene_of(Noise(), np_transform(), "np")


def descended(folder: Path) -> Scene:
    """The same; the weights that training started from are a public file."""
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels, drift=0.03), channels)
    weights = plain_features().state_dict()
    path = folder / "ancestor.safetensors"
    return with_ancestor(scene, path, weights, PlantedFeatures)


SCENES = {
    "images": images,
    "shuffled": shuffled,
    "features": features,
    "descended": descended,
    "noise": noise,
}
CASES = [(kind, scene) for kind in ATTACKS.values() for scene in SCENES]


def case_of(kind: type[Attack], scene: str, folder: Path) -> tuple[Attack, Scene]:
    made = SCENES[scene](folder)
    attack = kind.within(WIDE if kind.name == "exhaustive" else PATIENT, seed=0)
    if why := attack.impossible(made):
        pytest.skip(why)
    return attack, made


def state_of(scene: Scene) -> dict[str, torch.Tensor]:
    state = scene.stolen.model.state_dict()
    return {name: value.clone() for name, value in state.items()}


def but_for_counts(outcomes: Iterator[Outcome]) -> list[dict]:
    return [vars(one) | {"counts": one.counts.tolist()} for one in outcomes]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_an_attack_keeps_its_promises(
    kind: type[Attack], name: str, tmp_path: Path
) -> None:
    attack, scene = case_of(kind, name, tmp_path)
    before, done = state_of(scene), []
    scene = dataclasses.replace(scene, tick=done.append)
    groups = attack.variants(scene)
    found = list(run_all(attack, scene))
    every = [variant for group in groups for variant in group]
    assert every, "it says what it can find"
    assert len(set(every)) == len(every), "and each once"
    assert [Variant.of(one) for one in found] == every, "in the order it said"
    assert {one.attack for one in found} == {attack.name}
    assert max(one.images for one in found) <= len(scene.pool)
    assert all(one.labels <= one.images for one in found)
    assert all(one.counts.shape[0] == len(found[0].counts) for one in found)
    after = state_of(scene)
    assert all(torch.equal(before[key], after[key]) for key in before), "untouched"
    if any(one.queries for one in found):
        assert sum(done) > 0, "it tells how its work goes"


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_group_alone_gives_what_it_gives_among_others(
    kind: type[Attack], name: str, tmp_path: Path
) -> None:
    """So an audit that was stopped, or shared out, ends with the same findings."""
    attack, scene = case_of(kind, name, tmp_path)
    whole = but_for_counts(run_all(attack, scene))
    torch.manual_seed(99)
    backwards = [
        but_for_counts(attack.run(scene, group))
        for group in reversed(attack.variants(scene))
    ]
    assert [one for part in reversed(backwards) for one in part] == whole


@pytest.mark.parametrize("kind", ATTACKS.values(), ids=lambda kind: kind.name)
def test_every_attack_is_tried_in_some_scene_or_has_tests_of_its_own(
    kind: type[Attack], tmp_path: Path
) -> None:
    attack = kind.within(WIDE if kind.name == "exhaustive" else PATIENT, seed=0)
    possible = [
        name for name in SCENES if not attack.impossible(SCENES[name](tmp_path))
    ]
    assert possible or attack.name == "weights-only"  # it needs a lifted stem
