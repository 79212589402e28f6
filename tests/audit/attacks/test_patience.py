"""Patient training: what it learns, goes back to, and gives its control alike."""

import dataclasses

import pytest
import torch
from torch import nn

from mlguard.audit.attacks import Controls
from mlguard.audit.attacks.base import Pool
from mlguard.audit.attacks.patient_retraining import (
    MATCHED,
    STOLEN,
    PatientRetraining,
    start_of,
)
from mlguard.audit.attacks.training.patience import Patience, Student
from mlguard.audit.findings import BUDGETS, Budget
from mlguard.audit.target import Subject
from mlguard.models import NO_KEY, Normalization
from mlguard.recipe import Model
from tests.audits import run_all
from tests.planted import (
    CPU,
    TASK,
    Noise,
    PlantedFeatures,
    channel_permutation,
    colour_images,
    np_transform,
    plain_features,
    planted_features,
    scene_of,
    scene_of_features,
    with_ancestor,
)

BUDGET = Budget(
    search_images=2,
    unlabelled=2,
    guesses=2,
    starts=1,
    labelled=(2,),
    steps=2,
    rates=(1e-3,),
    adapter_rates=(1e-3,),
    patient_labelled=(8, 500),
    patient_steps=40,
    patient_rates=(1e-9, 1e-2),
)


def pool_of(number: int) -> Pool:
    own = colour_images(number, seed=2)
    return Pool(own.images, own.masks, TASK.ignore_index)


def student() -> Student:
    model = PlantedFeatures().train()
    subject = Subject(model, Normalization(), CPU)
    return Student(subject, NO_KEY, list(model.parameters()))


def patience(**changes: object) -> Patience:
    fields = {"labels": 8, "steps": 40, "rates": (1e-2,), "seed": 0}
    return Patience(pool_of(16), tick=lambda work: None, **(fields | changes))


@torch.no_grad()
def loss_of(model: nn.Module) -> float:
    other = colour_images(8, seed=5)
    pixels = Normalization()(other.images / 255)
    return float(nn.functional.cross_entropy(model(pixels), other.masks.long()))


def test_it_learns_and_finds_its_learning_rate() -> None:
    """Of two rates one learns nothing at all."""
    learned, _ = patience(rates=(1e-9, 1e-2)).teach(student)
    still, _ = patience(rates=(1e-9,)).teach(student)
    assert loss_of(learned.subject.model) < 0.7 * loss_of(still.subject.model)


def test_the_same_seed_gives_the_same_weights() -> None:
    torch.manual_seed(1)
    first, _ = patience(steps=5).teach(student)
    torch.manual_seed(2)
    second, _ = patience(steps=5).teach(student)
    for one, other in zip(first.parameters, second.parameters, strict=True):
        assert torch.equal(one, other)


def test_it_goes_back_to_where_the_held_out_labels_fitted_best(monkeypatch) -> None:
    """A rate at which training jumps about."""
    looks, look = [], Patience._look

    def recorded(self: Patience, student: Student, kept: Pool) -> float:
        looks.append(look(self, student, kept))
        return looks[-1]

    monkeypatch.setattr(Patience, "_look", recorded)
    wild, learned = patience(rates=(0.3,), steps=20), student()
    wild._train(learned, 0.3, 20)
    assert min(looks) < looks[-1], "or there was nothing to go back to"
    _, kept = wild._parts
    assert look(wild, learned, kept) == pytest.approx(min(looks))


def test_statistics_are_taken_again_from_images_without_labels() -> None:
    model = plain_features()
    with torch.no_grad():
        model.norm.running_mean.add_(3.0)
    subject = Subject(model.train(), Normalization(), CPU)
    damaged = Student(subject, NO_KEY, list(model.parameters()))
    before = loss_of(model.eval())
    model.train()
    patience()._take_statistics_again(damaged)
    assert loss_of(model.eval()) < before


def test_the_quick_budget_has_no_time_and_it_is_said() -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    attack = PatientRetraining.within(BUDGETS["quick"], seed=0)
    assert "no time" in attack.impossible(scene)


def test_from_matched_columns_a_few_labels_are_enough(tmp_path) -> None:
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels, drift=0.03), channels)
    path = tmp_path / "a.safetensors"
    scene = with_ancestor(scene, path, plain_features().state_dict(), PlantedFeatures)
    attack = PatientRetraining.within(BUDGET, seed=0)
    stolen, matched = run_all(attack, scene)
    assert (stolen.variant, matched.variant) == (STOLEN, MATCHED)
    assert (stolen.rung, matched.rung) == ("T4", "T5")
    assert TASK.score_of(matched.counts) > 0.85
    assert attack.left_out(scene) == ("with 500 labelled images: the adversary has 32",)


def test_the_stolen_model_is_left_as_it_is() -> None:
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels), channels)
    before = {k: v.clone() for k, v in scene.stolen.model.state_dict().items()}
    patience(steps=2).teach(start_of(scene, STOLEN))
    after = scene.stolen.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("patient", [False, True])
def test_the_control_is_as_patient_as_the_attack(patient: bool) -> None:
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels), channels)
    scene = dataclasses.replace(
        scene, model=Model(name="fcn_small"), build=PlantedFeatures
    )
    done: list[int] = []
    scene = dataclasses.replace(scene, tick=done.append)
    control = Controls(scene, BUDGET, 0, patient).at(8)
    trained = PatientRetraining.within(BUDGET, seed=0).lesson(scene, 8).queries
    assert control.queries == 2 * 16 + patient * trained
    assert sum(done) >= control.queries
