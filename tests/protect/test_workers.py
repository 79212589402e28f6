"""Processes that make batches and die: what is said, and what it does not swallow."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mlguard.data import TrainingSet
from mlguard.errors import RunError
from mlguard.protect.training.workers import living_workers
from tests.runs import small_baseline, small_run


class Mortal(Dataset):
    """A worker that makes its first image dies of a signal."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        os.kill(os.getpid(), self.number)
        return torch.zeros(1)


def load(dataset: Dataset) -> None:
    with living_workers():
        list(DataLoader(dataset, num_workers=1))


def test_worker_without_shared_memory_names_it_and_what_helps() -> None:
    with pytest.raises(
        RunError, match=r"shared memory \(/dev/shm, \d+ MB\)"
    ) as refusal:
        load(Mortal(signal.SIGBUS))
    assert "data.workers=0" in refusal.value.hint
    assert "--shm-size" in refusal.value.hint


def test_worker_that_was_killed_names_memory() -> None:
    with pytest.raises(RunError, match="was killed: there is too little memory"):
        load(Mortal(signal.SIGKILL))


@pytest.mark.parametrize(
    "said",
    [
        "unable to write to file </torch_1_2>: No space left on device (28)",
        "unable to mmap 12 bytes from file </torch_1>: Cannot allocate memory (12)",
        "unable to open shared memory object </torch_1> in read-write mode",
        "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
    ],
)
def test_other_words_of_torch_for_it_are_known(said: str) -> None:
    with pytest.raises(RunError, match="died"), living_workers():
        raise RuntimeError(said)


def test_another_error_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="expected scalar type"), living_workers():
        raise RuntimeError("expected scalar type Long")


def test_training_whose_workers_die_is_a_refusal_that_can_be_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with no workers, which is not another recipe."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGBUS)

    path = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(TrainingSet, "__getitem__", die)
        with pytest.raises(RunError, match="shared memory"):
            small_run(path, "data.workers=1")
    done = small_run(path, "data.workers=0", "data.cache=false", resume=True)
    assert done.load_model()


def test_workers_and_cache_change_no_weight(tmp_path: Path) -> None:
    plain = small_baseline(tmp_path / "plain")
    options = ("data.workers=1", "data.cache=false", "train.checkpoint_s=1")
    other = small_baseline(tmp_path / "other", *options)
    assert plain.weights.read_bytes() == other.weights.read_bytes()
