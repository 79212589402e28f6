"""A thief who has the recipe draws the initial weights of every small seed again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mlguard import recipe
from mlguard.audit.attacks import Leaks, Pool, Scene, SplitReferee
from mlguard.audit.attacks.known_initialization import (
    KnownInitialization,
    initial_weights,
    likeliest_seed,
)
from mlguard.audit.attacks.places import Match, Places
from mlguard.audit.findings import Outcome
from mlguard.audit.target import Subject, target_of_run
from mlguard.data import open_split
from mlguard.models import Normalization, keyed, readers
from mlguard.protect import Run, read_run
from mlguard.transforms import ChannelPermutation, TransformSet
from tests import audits, runs
from tests.planted import CPU, colour_images, scene_of_features

GOLDEN = Path(__file__).parents[1] / "golden/v0.1"
LAYER = "stages.0.branch.2"
SEED, SEEDS = 7, 40
ATTACK = KnownInitialization(seed=0, seeds=SEEDS)
CHANCE = 0.2  # of 32 channels, far more than a guess gets


def scene_of_run(run: Run, key: object) -> Scene:
    """What the audit of a run gives to its attacks."""
    target = target_of_run(run, key, run.recipe.audit, CPU)
    test, own = (
        open_split(run.recipe.data, None, split, seed=0)
        for split in ("test", "validation")
    )
    stolen = target.load()
    return Scene(
        stolen=stolen,
        spec=target.spec,
        model=target.model,
        task=test.task,
        pool=Pool.draw(own, 4, seed=0),
        leaks=Leaks(target.transforms.correct),
        referee=SplitReferee(stolen, test, 16),
        build=target.build,
    )


def found(scene: Scene) -> Outcome:
    (group,) = ATTACK.variants(scene)
    (outcome,) = ATTACK.run(scene, group)
    return outcome


def recovered(scene: Scene, correct: TransformSet) -> float:
    """The share of the channels that pairing puts where the key put them."""
    seed, _ = likeliest_seed(scene, SEEDS)
    matched = Places.of(scene, initial_weights(scene, seed)).matched
    orders = {one.layer: one.order for one in matched if isinstance(one, Match)}
    right = [np.mean(orders[one.layer] == one.order) for one in correct.channels]
    return float(np.mean(right))


def test_a_model_of_version_0_1_gives_its_whole_key_away() -> None:
    """Trained from seed 0 and then bound in every layer, under a rotation too."""
    scene = scene_of_run(read_run(GOLDEN / "run_bound"), audits.KEY)
    outcome = found(scene)
    assert outcome.notes == ()
    correct = read_run(GOLDEN / "run_bound").transform(audits.KEY)
    assert recovered(scene, correct) > 0.98
    counts = scene.referee(scene.stolen.model, keyed(correct, CPU))
    assert scene.task.score_of(outcome.counts) == pytest.approx(
        scene.task.score_of(counts), abs=0.01
    )


def test_a_model_whose_initial_weights_are_secret_gives_nothing_away(
    tmp_path: Path,
) -> None:
    options = ("transform.method=channels", f'transform.layers=["{LAYER}"]')
    run = runs.small_run(tmp_path / "run", *options)
    scene = scene_of_run(run, runs.KEY)
    assert found(scene).notes == ("initialization-unlike",)
    assert recovered(scene, run.transform(runs.KEY)) < CHANCE


def drawn(seed: int, drift: float) -> tuple[Scene, TransformSet]:
    """A model that began with a seed, was bound in one layer, and drifted."""
    blank = recipe.Model(name="fcn_small")
    order = np.random.default_rng(3).permutation(32)
    correct = TransformSet(None, (ChannelPermutation(LAYER, order),))
    made = scene_of_features(torch.nn.Identity(), correct.channels[0])
    scene = dataclasses.replace(
        made,
        spec=recipe.Transform(method="channels", layers=(LAYER,)),
        model=blank,
        build=None,
    )
    model = scene.new_model(blank, seed=seed).eval()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for reader in readers(model, LAYER):
            weight = model.get_submodule(reader).weight
            weight.copy_(weight[:, order])
        for parameter in model.parameters():
            if parameter.ndim > 1:
                step = torch.randn(parameter.shape, generator=noise)
                parameter.add_(drift * parameter.std() * step)
    stolen = Subject(model, Normalization(), CPU)
    referee = SplitReferee(stolen, colour_images(4, seed=3), 4)
    return dataclasses.replace(scene, stolen=stolen, referee=referee), correct


@pytest.mark.parametrize("drift", [0.0, 0.5, 1.0])
def test_the_seed_is_found_although_training_moved_the_weights(drift: float) -> None:
    scene, correct = drawn(SEED, drift)
    seed, certainty = likeliest_seed(scene, SEEDS)
    assert seed == SEED
    assert certainty > 6
    assert recovered(scene, correct) > 0.9


def test_a_seed_above_those_tried_is_not_found() -> None:
    scene, correct = drawn(SEEDS + 1, 0.0)
    assert found(scene).notes == ("initialization-unlike",)
    assert recovered(scene, correct) < CHANCE


def test_where_nothing_was_folded_it_says_so() -> None:
    scene = scene_of_run(read_run(GOLDEN / "run_shf"), audits.KEY)
    assert "no layer reads whole blocks" in ATTACK.impossible(scene)
