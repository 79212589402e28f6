"""A process of torchrun that is killed costs no more than the steps since a checkpoint.

torchrun starts both processes again where they find each other. Where they do not, it
gives up, and the same command goes on from the last checkpoint. The images come from
archives, so both processes share those too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mlguard.protect.run_folder import METRICS, MODEL
from mlguard.protect.training.checkpoint import Progress
from mlguard.protect.training.loop import Course
from tests.shards import write_splits

ROOT = Path(__file__).parents[2]
STARTS = 3  # of the same command, at most

# The fifth step is within the second epoch, so that a resumed epoch's loss is told too.
# Without batch norm, whose statistics are those of each process's share of a batch.
JOB = """
import os, signal, sys
from pathlib import Path
from torch import nn
from mlguard.protect import DataFolder, Job
from tests.runs import HALF, KEY, small_recipe

folder = Path(sys.argv[1])
killed = folder / "killed"

class Mortal(nn.Sequential):
    steps = 0
    def forward(self, pixels):
        self.steps += self.training
        if self.steps == 5 and os.environ.get("RANK") == "1" and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(pixels)

def build():
    return Mortal(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

recipe = small_recipe(
    "data.kind='shards'", "data.class_names=['dark', 'light']", "data.validation='val'",
    "train.epochs=3", "train.checkpoint_s=0.001", *HALF
)
data = DataFolder(folder.parent / "data")
Job(folder / "run", recipe, data, build=build, resume=True).train_baseline(KEY)
"""


def trained(folder: Path, *launcher: str) -> Path:
    """The run folder of a training."""
    folder.mkdir()
    script = folder / "job.py"
    script.write_text(JOB)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(script), str(folder)]
    for _ in range(STARTS):
        done = subprocess.run(command, env=environment)
        if not done.returncode:
            return folder / "run"
    raise AssertionError(f"the training did not end in {STARTS} starts")


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.slow
def test_a_killed_process_changes_nothing_of_the_result(tmp_path: Path) -> None:
    write_splits(tmp_path / "data")
    elastic = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    killed = trained(tmp_path / "two", *elastic, "--max-restarts", "1")
    assert (tmp_path / "two" / "killed").exists()
    whole = trained(tmp_path / "one")
    losses = [
        [json.loads(line)["train_loss"] for line in lines_of(run / METRICS)]
        for run in (whole, killed)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    left, right = load_file(whole / MODEL), load_file(killed / MODEL)
    assert max(float((left[n] - right[n]).abs().max()) for n in left) < 1e-4


class Others:
    """The processes of a training, of which this one is the first: what they sum."""

    is_main_process, scaler = False, None

    def reduce(self, own: torch.Tensor, *, reduction: str) -> torch.Tensor:
        assert reduction == "mean"
        return (own + 5.0) / 2

    def wait_for_everyone(self) -> None:
        pass


def test_a_checkpoint_has_the_loss_of_all_processes() -> None:
    """Each goes on from it: the sum of one alone would stand for all of them."""
    course = object.__new__(Course)
    course._accelerator, course._progress = Others(), Progress()  # type: ignore[assignment]
    course._loss_sum = torch.tensor(3.0, dtype=torch.float64)
    course._save()
    assert course._progress.loss_sum == 4.0
    assert float(course._loss_sum) == 4.0
