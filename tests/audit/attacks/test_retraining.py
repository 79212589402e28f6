"""Re-training and its control: what must be learned, and what cannot be."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mlguard import recipe
from mlguard.audit.attacks.controls import Controls, has_ancestor
from mlguard.audit.attacks.retraining import Retraining, parts_of
from mlguard.audit.attacks.training.adapters import BlockAdapter
from mlguard.audit.attacks.training.learning import Lesson, settled
from mlguard.audit.findings.budgets import BUDGETS, Budget
from mlguard.audit.target.subject import Subject
from mlguard.models import NO_KEY, Normalization, build_model
from mlguard.models.conditions import plain
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

ATTACK = Retraining(
    seed=0, labelled=(8,), steps=150, rates=(1e-2,), adapter_rates=(2e-2,)
)
TINY = Budget(
    search_images=4,
    unlabelled=4,
    guesses=50,
    starts=1,
    labelled=(2, 4),
    steps=3,
    rates=(1e-3,),
    adapter_rates=(1e-2,),
)


def attacked(model: torch.nn.Module, transform, method: str) -> dict[str, float]:
    scene = scene_of(model, transform, method)
    return {one.variant: TASK.score_of(one.counts) for one in run_all(ATTACK, scene)}


@pytest.mark.parametrize(
    ("transform", "method"),
    [(np_transform(), "np"), (shf_transform(), "shf")],
    ids=["np", "shf"],
)
def test_few_labels_undo_a_planted_key(transform, method: str) -> None:
    model = planted(transform)
    before = TASK.score_of(scene_of(model, transform, method).referee(model, NO_KEY))
    found = attacked(model, transform, method)
    assert before < 0.6
    assert found["everything"] > 0.9
    assert found["block adapter"] > 0.9


def test_an_adapter_before_weights_of_noise_learns_nothing_of_worth() -> None:
    assert attacked(Noise(), np_transform(), "np")["block adapter"] < 0.8


def test_the_stolen_model_is_left_as_it_was() -> None:
    model = planted(np_transform())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attacked(model, np_transform(), "np")
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_adapter_starts_as_the_plain_image() -> None:
    images = torch.arange(3 * 8 * 8).remainder(256).view(1, 3, 8, 8).to(torch.uint8)
    adapter = BlockAdapter(4)
    assert torch.allclose(adapter(images), plain(images))


def test_a_pool_without_enough_labels_leaves_out_the_larger_numbers() -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    attack = Retraining(seed=0, labelled=(2, 500), steps=1)
    assert {outcome.labels for outcome in run_all(attack, scene)} == {2}
    assert attack.left_out(scene) == ("with 500 labelled images: the adversary has 32",)
    assert "500" in Retraining(seed=0, labelled=(500,)).impossible(scene)


def test_an_adapter_for_large_blocks_is_left_out_and_said() -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    large = recipe.Transform(method="np", block_size=64)
    scene = dataclasses.replace(scene, spec=large)
    attack = Retraining(seed=0, labelled=(2,), steps=1)
    variants = {outcome.variant for outcome in run_all(attack, scene)}
    assert variants == {"everything", "stem", "head"}
    assert "too large a matrix for 64×64 blocks" in attack.left_out(scene)[0]


def test_a_control_without_public_weights_is_trained_from_scratch_alone() -> None:
    controls = Controls(scene_of(Noise(), np_transform(), "np"), TINY, seed=0)
    assert controls.at(2).ancestor is None


def test_a_control_is_the_same_whatever_was_drawn_before() -> None:
    def scratch(global_seed: int) -> np.ndarray:
        torch.manual_seed(global_seed)
        scene = scene_of(Noise(), np_transform(), "np")
        return Controls(scene, TINY, seed=0).at(2).scratch

    assert np.array_equal(scratch(1), scratch(2))


def test_dropout_in_a_training_follows_from_its_seed() -> None:
    def weights(global_seed: int, seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        model = nn.Sequential(Noise(), nn.Dropout(0.5)).train()
        scene = scene_of(Noise(), np_transform(), "np")
        subject = Subject(model, Normalization(), torch.device("cpu"))
        lesson = Lesson(scene.pool, 3, seed, scene.tick)
        lesson.teach(subject, model.parameters(), NO_KEY, 1e-2)
        return next(model.parameters())

    assert torch.equal(weights(1, 0), weights(2, 0))
    assert not torch.equal(weights(1, 0), weights(1, 1))


def test_an_ancestor_that_is_on_this_machine_is_a_control_too(tmp_path) -> None:
    spec = recipe.Model(name="fcn_small")
    path = tmp_path / "public.safetensors"
    save_file(build_model(spec, 2).state_dict(), path)
    middle = (0.5, 0.5, 0.5)
    public = recipe.Model(name="fcn_small", weights=str(path), mean=middle, std=middle)
    scene = scene_of(Noise(), np_transform(), "np")
    scene = dataclasses.replace(scene, model=public)
    control = Controls(scene, TINY, seed=0).at(2)
    assert control.ancestor is not None
    assert len(control.parts) == 2


@pytest.mark.parametrize("weights", ["none", "ResNet50_Weights.IMAGENET1K_V1"])
def test_nothing_is_downloaded_for_a_control(weights: str) -> None:
    assert not has_ancestor(recipe.Model(name="fcn_resnet50", weights=weights))


@pytest.mark.parametrize(
    ("losses", "answer"),
    [
        ([4.0, 3.0, 2.0, 1.0], False),
        ([4.0, 1.0, 1.0, 1.0], True),
        ([4.0, 1.0, 0.5, 0.01], True),
        ([1.0], True),
    ],
    ids=["falling", "flat", "learned", "one step"],
)
def test_a_training_has_settled_when_its_loss_is_flat_or_small(losses, answer) -> None:
    assert settled(losses) == answer


def test_a_larger_budget_is_larger_in_everything() -> None:
    quick, standard, thorough = (
        (b.guesses, b.starts, max(b.labelled), b.steps, len(b.rates))
        for b in BUDGETS.values()
    )
    assert all(a < b < c for a, b, c in zip(quick, standard, thorough, strict=True))


def test_a_part_is_trained_and_the_rest_is_left_as_it_was() -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    attack = Retraining(seed=0, labelled=(2,), steps=2)
    parts = parts_of(scene)
    assert parts == {"stem": ("layers.0", "layers.1"), "head": ("layers.2",)}
    trained = attack._trained_part(scene, lesson_of(scene), parts["head"], 1e-2)[0]
    before, after = (m.state_dict() for m in (scene.stolen.model, trained))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"layers.2.weight", "layers.2.bias"}


def test_the_layers_behind_a_permuted_feature_map_are_a_part() -> None:
    channels = channel_permutation()
    scene = scene_of_features(planted_features(channels), channels)
    assert parts_of(scene)["readers"] == ("mix",)
    attack = Retraining(seed=0, labelled=(8,), steps=60, rates=(2e-2,))
    found = {one.variant: TASK.score_of(one.counts) for one in run_all(attack, scene)}
    assert found["readers"] > 0.8


def test_a_share_of_the_training_images_is_a_number_of_labels() -> None:
    scene = scene_of(Noise(), np_transform(), "np")
    known = dataclasses.replace(scene, trained_on=60)
    attack = Retraining(seed=0, labelled=(2,), share=0.1, steps=1)
    assert attack.numbers(known) == [2, 6]
    assert attack.numbers(scene) == [2]
    many = dataclasses.replace(scene, trained_on=6000)
    assert "with 600 labelled images" in attack.left_out(many)[0]


def lesson_of(scene) -> Lesson:
    return Lesson(scene.pool, 2, 0, scene.tick)
