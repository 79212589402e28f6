"""An attack's random numbers: those of its seed, and nobody else's."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.seeded import Seeded
from mlguard.audit.attacks.training.learning import Lesson
from mlguard.audit.target import Subject
from mlguard.models import NO_KEY, Normalization
from tests.planted import Noise, np_transform, scene_of


def drawn() -> list[Tensor]:
    """What layers, dropout and the functions that make tensors draw."""
    layers = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).train()
    shown = layers(torch.ones(4, 8)).detach()
    order = torch.randperm(9)
    whole = torch.randint(5, (7,)), torch.randint(2, 5, (7,))
    return [layers[0].weight.detach(), shown, order, *whole, torch.randn(3)]


def test_the_numbers_are_those_of_the_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = drawn()
    with Seeded(3):
        found = drawn()
    assert all(map(torch.equal, found, expected))
    with Seeded(4):
        assert not torch.equal(drawn()[0], expected[0])


def test_the_generator_of_the_process_is_left_alone() -> None:
    before = torch.get_rng_state()
    with Seeded(3):
        drawn()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_dropout_of_a_gpu_is_drawn_too(share: float) -> None:
    """There it is one operation, which takes no generator."""
    values = torch.ones(1000, requires_grad=True)
    with Seeded(3):
        shown, kept = torch.native_dropout(values, share, True)
    shown.sum().backward()
    scale = 0.0 if share == 1 else 1 / (1 - share)
    assert torch.equal(shown, kept * scale)
    assert torch.equal(values.grad, kept * scale)
    assert abs(float(kept.float().mean()) - (1 - share)) < 0.05


def test_trainings_in_threads_do_not_disturb_each_other() -> None:
    def weights(seed: int) -> Tensor:
        with Seeded(seed):
            model = nn.Sequential(Noise(), nn.Conv2d(2, 2, 1), nn.Dropout(0.5)).train()
        scene = scene_of(Noise(), np_transform(), "np")
        subject = Subject(model, Normalization(), torch.device("cpu"))
        lesson = Lesson(scene.pool, 10, seed, scene.tick)
        lesson.teach(subject, model.parameters(), NO_KEY, 1e-2)
        return model[1].weight.detach()

    alone = [weights(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(weights, range(4)))
    assert all(map(torch.equal, alone, together))
