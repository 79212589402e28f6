"""A thief who knows algorithm, recipe and seed draws the initial weights again.

Pairing a trained layer's columns with those it started from gives the order in which a
key permuted them: no image, no label and no key is needed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mlguard.keys import TrainingSecret
from mlguard.protect import Run
from mlguard.protect.key_work import new_model
from mlguard.protect.run_folder.secret import training_digest
from mlguard.protect.training.randomness import SecretWeights
from tests.runs import KEY, small_run

LAYER, READER = "stages.0.branch.2", "stages.0.branch.3"
SEEDS = 20
CHANCE = 0.2  # of 32 channels, far more than a guess gets


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = ("transform.method=channels", f'transform.layers=["{LAYER}"]')
    return small_run(tmp_path_factory.mktemp("runs") / "run", *options)


def columns(model: torch.nn.Module) -> NDArray[np.float32]:
    weight = model.get_submodule(READER).weight.detach().movedim(1, 0).flatten(1)
    return torch.nn.functional.normalize(weight).numpy()


def recovered(run: Run, initial: torch.nn.Module) -> float:
    """The share of the channels that pairing puts where the key put them."""
    paired = (columns(run.load_model()) @ columns(initial).T).argmax(1)
    (true,) = run.transform(KEY).channels
    return float(np.mean(paired == true.order))


def test_no_seed_gives_the_initial_weights(run: Run) -> None:
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        assert recovered(run, new_model(run.recipe)) < CHANCE


def test_pairing_finds_the_order_where_the_initial_weights_are_known(run: Run) -> None:
    """Shows that the test above can fail."""
    with SecretWeights(KEY.for_training(training_digest(run.recipe))):
        initial = new_model(run.recipe)
    assert recovered(run, initial) > 0.9


def test_neither_run_nor_bundle_holds_what_was_drawn_from(run: Run) -> None:
    secret = KEY.for_training(training_digest(run.recipe))
    wanted = [secret.reveal(), secret.reveal().hex().encode()]
    for file in Path(run.path).rglob("*"):
        assert not any(each in file.read_bytes() for each in wanted), file
    assert not (run.path / "training.secret").exists()


def test_a_guessed_secret_gives_other_weights(run: Run) -> None:
    for guess in (bytes(32), training_digest(run.recipe)):
        with SecretWeights(TrainingSecret(guess)):
            assert recovered(run, new_model(run.recipe)) < CHANCE
