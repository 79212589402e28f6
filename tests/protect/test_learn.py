"""The parts of a training step: loss, optimizer groups, learning rate, data order."""

import pytest
import torch
from torch import nn

from mlguard import recipe
from mlguard.keys import TrainingSecret
from mlguard.protect.training.batches import Positions
from mlguard.protect.training.loop import step_seed
from mlguard.protect.training.loss import cross_entropy_loss
from mlguard.protect.training.optimizer import learning_rate, new_optimizer

VOID = 255


def spec(**fields: object) -> recipe.Train:
    return recipe.Train.model_validate({"epochs": 20, "batch": 4} | fields)


def rates(settings: recipe.Train, *, steps: int = 10) -> list[float]:
    total = settings.epochs * steps
    return [
        learning_rate(settings, step, steps_per_epoch=steps) for step in range(total)
    ]


def test_restarts_go_from_the_highest_to_the_lowest_rate_every_ten_epochs() -> None:
    found = rates(
        spec(schedule="cosine_restarts", learning_rate=0.1, min_learning_rate=1e-4)
    )
    assert found[0] == found[100] == pytest.approx(0.1)
    assert found[99] == pytest.approx(1e-4, abs=1e-4)
    assert found[50] == pytest.approx((0.1 + 1e-4) / 2)


def test_one_cycle_rises_and_then_falls_to_the_lowest() -> None:
    found = rates(spec(schedule="one_cycle", learning_rate=1.0))
    top = found.index(max(found))
    assert top == 20
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[-1] < 1e-3


def test_poly_falls_to_nothing_and_constant_stays() -> None:
    assert rates(spec(schedule="poly", learning_rate=1.0))[100] == 0.5**0.9
    assert set(rates(spec(schedule="constant", learning_rate=0.3))) == {0.3}


def test_loss_is_the_mean_over_scored_pixels() -> None:
    logits = torch.tensor([[[[0.0, 9.0]], [[0.0, -9.0]]]])
    masks = torch.tensor([[[0, VOID]]], dtype=torch.uint8)
    loss = cross_entropy_loss(logits, masks, ignore_index=VOID, aux=0.0)
    assert float(loss) == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_batch_without_a_scored_pixel_costs_nothing() -> None:
    masks = torch.full((1, 2, 2), VOID, dtype=torch.uint8)
    logits = torch.randn(1, 3, 2, 2)
    assert float(cross_entropy_loss(logits, masks, ignore_index=VOID, aux=0.0)) == 0.0


def test_auxiliary_head_counts_with_its_weight() -> None:
    masks = torch.zeros(1, 1, 1, dtype=torch.uint8)
    out = {"out": torch.zeros(1, 2, 1, 1), "aux": torch.zeros(1, 2, 1, 1)}
    plain = cross_entropy_loss(out, masks, ignore_index=VOID, aux=0.0)
    both = cross_entropy_loss(out, masks, ignore_index=VOID, aux=0.5)
    assert float(both) == pytest.approx(1.5 * float(plain))


def test_encoder_has_a_rate_of_its_own() -> None:
    model = nn.ModuleDict({"features": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    groups = new_optimizer(model, spec(encoder_learning_rate=0.1)).param_groups
    assert [group["rate_factor"] for group in groups] == [0.1, 1.0]
    assert [len(group["params"]) for group in groups] == [2, 2]


def test_stream_of_positions_can_start_at_any_step() -> None:
    settings = spec(epochs=3, batch=4)
    whole = list(Positions(10, settings, seed=0, first_step=0))
    assert len(whole) == len(Positions(10, settings, seed=0, first_step=0)) == 3 * 8
    for step in range(6):
        rest = list(Positions(10, settings, seed=0, first_step=step))
        assert rest == whole[step * 4 :]
        assert len(rest) == len(Positions(10, settings, seed=0, first_step=step))


def test_every_epoch_shows_different_images_once() -> None:
    whole = list(Positions(8, spec(epochs=2, batch=4), seed=0, first_step=0))
    assert sorted(whole) == list(range(16))
    assert [p % 8 for p in whole[:8]] != [p % 8 for p in whole[8:]]


def test_no_two_steps_processes_or_seeds_share_randomness() -> None:
    secrets = [TrainingSecret(bytes([a] * 32)) for a in range(3)]
    seeds = [step_seed(a, b, c) for a in secrets for b in range(5) for c in range(4)]
    assert len(set(seeds)) == 60
