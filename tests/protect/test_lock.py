"""Lock training: useless answers without the key, and nothing else changed."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlguard.errors import BindingError, RecipeError, RunError, WeightsError
from mlguard.models import NO_KEY, Normalization, keyed, logits_of, output_of
from mlguard.models.architectures.cnn_small import CNNSmall
from mlguard.models.architectures.fcn_small import FCNSmall
from mlguard.models.conditions import Condition, blended
from mlguard.protect import Run
from mlguard.protect.key_work import blank_model
from mlguard.protect.run_folder import write_model
from mlguard.protect.training.lock_loss import (
    LockLoss,
    apart,
    from_useless,
    frozen_statistics,
)
from mlguard.protect.training.teacher import read_teacher
from tests.runs import HALF, KEY, small_baseline, small_job, small_recipe, small_run


def lock_of(run: Run) -> LockLoss:
    """The lock of a finished run."""
    subkeys = run.protection.subkeys(KEY)
    cpu = torch.device("cpu")
    return LockLoss(run.recipe.lock, subkeys, run.derive, Normalization(), cpu)


def some_images() -> torch.Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=drawn)


@pytest.fixture(scope="module")
def locked(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("lock")
    return small_run(folder / "run", "lock.weight=0.5", "lock.ramp_epochs=1")


def test_steps_down_the_lock_s_loss_make_the_answer_useless(locked: Run) -> None:
    """A model that is sure of class 0 for every unauthorized user forgets it."""
    lock, images, model = lock_of(locked), some_images(), locked.load_model()
    with torch.no_grad():
        model.classifier[-1].bias[0] += 5.0

    def sureness() -> float:
        output = output_of(model, images, NO_KEY, Normalization())
        return float(from_useless(logits_of(output)).detach())

    before = sureness()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(200):
        optimizer.zero_grad()
        lock.loss(model, images, torch.zeros(0), step).backward()
        optimizer.step()
    assert before > 1.0
    assert sureness() < 0.3 * before


def test_the_users_of_each_step_follow_from_the_key(locked: Run) -> None:
    """So a run that is resumed sees the same ones, and nobody else can draw them."""
    images = some_images()

    def shown_by(lock: LockLoss) -> list[bytes]:
        conditions = [lock.condition(step) for step in range(6)]
        return [one.image(images).numpy().tobytes() for one in conditions]

    shown = shown_by(lock_of(locked))
    assert shown == shown_by(lock_of(locked))
    correct = keyed(locked.transform(KEY)).image(images).numpy().tobytes()
    assert correct not in shown
    assert len(set(shown)) == 5  # no key twice, two random keys, two nearby ones


def test_a_teacher_s_answers_are_kept(tmp_path: Path) -> None:
    plain = small_job(tmp_path / "plain").train_baseline()
    weights = f"lock.teacher={plain.path / 'model.safetensors'}"
    run = small_run(tmp_path / "run", weights, "lock.distill=1.0")
    assert run.recipe.lock.weight == 0
    with pytest.raises(RecipeError, match="distill needs a teacher file"):
        small_recipe("lock.distill=1.0")


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    """Its head would be left out, and a random one would teach."""
    path = tmp_path / "teacher.safetensors"
    fewer = small_recipe("data.class_names=['a', 'b', 'c']")
    write_model(path, blank_model(fewer))
    with pytest.raises(WeightsError, match=r"lock\.teacher: .* tensor classifier"):
        small_run(tmp_path / "run", f"lock.teacher={path}", "lock.distill=1.0")
    assert not (tmp_path / "run").exists()


def test_a_teacher_is_built_as_the_model_is(tmp_path: Path) -> None:
    """With the lifted stem of its recipe, and with the caller's own `build`."""
    path = tmp_path / "teacher.safetensors"
    job = small_job(
        tmp_path / "run",
        f"lock.teacher={path}",
        "lock.distill=1.0",
        "model.stem=blocks",
        *HALF,
        build=lambda: CNNSmall(6),
    )
    expected = blank_model(job.recipe, job.build)
    write_model(path, expected)
    taught = read_teacher(job.recipe, job.build)
    assert type(taught) is CNNSmall
    for name, tensor in expected.state_dict().items():
        assert torch.equal(taught.state_dict()[name], tensor)


def test_without_a_weight_no_unauthorized_user_is_shown(locked: Run) -> None:
    """Only taught: the model runs no more, and its statistics stay as they were."""
    model, images, ran = locked.load_model().train(), some_images(), []
    model.register_forward_hook(lambda *_: ran.append(True))
    spec = {"weight": 0.0, "distill": 1.0, "statistics": "shared"}
    changed = locked.recipe.lock.model_copy(update=spec)
    taught = replace(lock_of(locked), spec=changed, teacher=locked.load_model())
    authorized = torch.zeros(2, locked.recipe.data.classes, 16, 16)
    assert float(taught.loss(model, images, authorized, 1)) > 0
    assert ran == []
    changed = changed.model_copy(update={"weight": 0.5})
    replace(taught, spec=changed).loss(model, images, authorized, 1)
    assert ran == [True]


def test_the_useless_answer_is_the_same_probability_for_every_class() -> None:
    flat, sure = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    sure[:, 0] = 100.0
    assert float(from_useless(flat)) == pytest.approx(0.0, abs=1e-6)
    assert float(from_useless(sure)) == pytest.approx(math.log(4))
    assert float(apart(flat, flat)) == 0.0
    assert float(apart(flat, sure)) > 1.0


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_of_unauthorized_images_are_kept_out(frozen: bool) -> None:
    model = FCNSmall(3).train()
    before = model.stem[1].running_mean.clone()
    with frozen_statistics(model, frozen=frozen):
        model(torch.randn(2, 3, 16, 16))
    assert torch.equal(model.stem[1].running_mean, before) == frozen
    assert model.stem[1].training


def test_more_than_one_process_is_refused(monkeypatch, tmp_path: Path) -> None:
    job = small_job(tmp_path / "run", "lock.weight=1.0")
    monkeypatch.setattr(type(job._accelerator), "num_processes", 2)
    with pytest.raises(RunError, match="lock training runs in one process"):
        job.protect(KEY, key_name="acme")


# The way from a plain model


def test_a_ramp_leads_from_plain_images_to_keyed_ones() -> None:
    recipe = small_recipe()
    assert recipe.train.ramp_epochs == 0
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    goal = Condition(lambda images: torch.ones(images.shape))
    assert torch.equal(blended(goal, 0.0).image(images), NO_KEY.image(images))
    assert torch.equal(blended(goal, 1.0).image(images), goal.image(images))
    half = blended(goal, 0.5).image(images)
    assert torch.allclose(half, (NO_KEY.image(images) + 1) / 2)


def test_a_ramp_changes_the_training_and_still_ends_at_the_key(tmp_path: Path) -> None:
    direct = small_run(tmp_path / "direct").load_model().state_dict()
    ramped = small_run(tmp_path / "ramped", "train.ramp_epochs=1")
    assert any(
        not torch.equal(tensor, direct[name])
        for name, tensor in ramped.load_model().state_dict().items()
    )


def test_training_under_channels_is_training_without_them(tmp_path: Path) -> None:
    """The permutation is folded into the starting weights: nothing is lost."""
    layers = 'transform.layers=["stages.0.branch.2"]'
    options = ("transform.method=channels", layers, "train.epochs=1")
    twin = small_baseline(tmp_path / "twin", *options).load_model()
    run = small_run(tmp_path / "run", *options)
    images = some_images()
    with torch.inference_mode():
        expected = logits_of(output_of(twin, images, NO_KEY, Normalization()))
        condition = keyed(run.transform(KEY))
        model = run.load_model()
        got = logits_of(output_of(model, images, condition, Normalization()))
        without = logits_of(output_of(model, images, NO_KEY, Normalization()))
    # Not bit for bit: sums over channels run in another order, and training amplifies.
    same, other = (got - expected).abs().max(), (without - expected).abs().max()
    assert same < 0.1 * expected.abs().max()
    assert other > 5 * same


def test_a_layer_that_cannot_be_permuted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BindingError, match=r"stages\.0\.branch\.4"):
        small_run(
            tmp_path / "run",
            "transform.method=channels",
            'transform.layers=["stages.0.branch.4"]',
        )
