"""Searches for a key: they find a planted one, and nothing where there is nothing."""

import numpy as np
import pytest
import torch

from mlguard.audit.attacks.base import Outcome, Scene
from mlguard.audit.attacks.exhaustive import Exhaustive
from mlguard.audit.attacks.hill_climbing import HillClimbing
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.search.guesses import GuessSpace
from mlguard.audit.attacks.search.objectives import Judge
from mlguard.data.draws import Draws
from mlguard.models.conditions import TorchTransform
from mlguard.transforms import FormatPreserving
from tests.audits import run_all
from tests.planted import TASK, Noise, np_transform, planted, scene_of, shf_transform

NP, SHF = np_transform(), shf_transform()
TABLE = np.arange(256, dtype=np.int32)[::-1] * 3 + 1

EXHAUSTIVE = Exhaustive(seed=0, images=4, guesses=1000)
CLIMB = HillClimbing(seed=0, images=4, guesses=3000, starts=8)


def scores_of(outcomes: list[Outcome]) -> dict[str, float]:
    return {outcome.variant: TASK.score_of(outcome.counts) for outcome in outcomes}


def test_every_mask_of_a_small_space_is_tried_and_the_planted_one_found() -> None:
    outcomes = list(run_all(EXHAUSTIVE, scene_of(planted(NP), NP, "np")))
    assert scores_of(outcomes) == {"batch-norm": 1.0, "cross-entropy": 1.0}
    assert {outcome.queries for outcome in outcomes} == {924 * 4}
    assert [(outcome.rung, outcome.labels) for outcome in outcomes] == [
        ("T3", 0),
        ("T4", 4),
    ]


@pytest.mark.parametrize("attack", [EXHAUSTIVE, CLIMB], ids=lambda one: one.name)
def test_nothing_is_found_in_weights_of_noise(attack) -> None:
    found = scores_of(list(run_all(attack, scene_of(Noise(), NP, "np"))))
    assert all(score < 0.5 for score in found.values())


@pytest.mark.parametrize(
    ("transform", "method"), [(NP, "np"), (SHF, "shf")], ids=["np", "shf"]
)
def test_climbing_finds_a_planted_key_with_and_without_labels(
    transform, method: str
) -> None:
    outcomes = list(run_all(CLIMB, scene_of(planted(transform), transform, method)))
    assert all(score > 0.95 for score in scores_of(outcomes).values())
    assert all(outcome.converged for outcome in outcomes)


def test_climbing_says_that_its_budget_ended_before_it_did() -> None:
    short = HillClimbing(seed=0, images=4, guesses=40, starts=1)
    outcomes = list(run_all(short, scene_of(planted(SHF), SHF, "shf")))
    assert not any(outcome.converged for outcome in outcomes)
    assert all(outcome.queries <= 4 * (40 + 33) for outcome in outcomes)


def test_the_same_seed_climbs_the_same_way_and_another_does_not() -> None:
    def counts(seed: int) -> np.ndarray:
        climb = HillClimbing(seed=seed, images=4, guesses=60, starts=1)
        return next(run_all(climb, scene_of(planted(SHF), SHF, "shf"))).counts

    assert np.array_equal(counts(0), counts(0))
    assert not np.array_equal(counts(0), counts(1))


def test_a_space_larger_than_the_budget_is_left_alone_with_a_reason() -> None:
    shf4 = shf_transform(4)
    scene = scene_of(Noise(), shf4, "shf")
    assert "more keys than the 1,000" in EXHAUSTIVE.impossible(scene)
    assert EXHAUSTIVE.impossible(scene_of(Noise(), NP, "np")) == ""


def test_a_known_table_makes_ffx_a_search_over_masks() -> None:
    ffx = FormatPreserving(2, NP.mask, TABLE)
    outcomes = list(run_all(CLIMB, scene_of(Noise(), ffx, "ffx")))
    assert all(outcome.notes == ("table-assumed-known",) for outcome in outcomes)


@pytest.mark.parametrize(
    ("methods", "size"),
    [(("np",), 924), (("ffx",), 924), (("shf",), 479001600), (("np", "ffx"), 924**2)],
)
def test_the_size_of_a_space_is_its_key_space(methods, size: int) -> None:
    assert GuessSpace(methods, 2, TABLE).size == size


def test_every_guess_of_a_space_is_another() -> None:
    space = GuessSpace(("shf", "np"), 1)
    guesses = [guess.tobytes() for guess in space.every()]
    assert len(guesses) == len(set(guesses)) == space.size == 18


@pytest.mark.parametrize("methods", [("shf",), ("np",), ("ffx",), ("np", "shf", "ffx")])
def test_guesses_in_a_batch_do_what_each_does_alone(methods) -> None:
    space = GuessSpace(methods, 2, TABLE)
    images = scene_of(Noise(), NP, "np").pool.images[:3]
    guesses = np.stack([space.draw(Draws(7, index)) for index in range(3)])
    together = space.apply(guesses, images)
    for guess, made in zip(guesses, together, strict=True):
        assert torch.equal(made, TorchTransform(space.transform(guess))(images))


def judged(scene: Scene, guesses: np.ndarray, images: int) -> torch.Tensor:
    space = GuessSpace.of(scene.spec, None)
    objectives = ("batch-norm", "cross-entropy", "entropy")
    return Judge(scene, space, subset(scene.pool, images), objectives)(guesses)


def test_a_batch_of_guesses_is_judged_as_each_alone() -> None:
    scene = scene_of(planted(NP), NP, "np")
    space = GuessSpace.of(scene.spec, None)
    guesses = np.stack([space.draw(Draws(8, index)) for index in range(40)])
    together = judged(scene, guesses, 4)
    alone = torch.cat([judged(scene, one[None], 4) for one in guesses], dim=1)
    assert torch.allclose(together, alone, rtol=1e-4)
    assert together[0].std() > 0.1, "or the comparison would say nothing"


def test_a_model_without_statistics_is_judged_by_its_entropy() -> None:
    model = planted(NP)
    del model.norm
    model.norm = torch.nn.Identity()
    (free, _) = run_all(EXHAUSTIVE, scene_of(model, NP, "np"))
    assert free.variant == "entropy"
