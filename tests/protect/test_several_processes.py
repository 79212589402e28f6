"""Two processes of torchrun give what one gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mlguard.protect.run_folder import METRICS, MODEL

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

# Without batch norm, whose statistics are those of each process's share of a batch.
JOB = """
import sys
from pathlib import Path
from torch import nn
from tests.runs import small_baseline

path = Path(sys.argv[1])

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 1))

half = "[0.5, 0.5, 0.5]"
small_baseline(  # plain: every protected model has a transform of its own
    path, "train.epochs=12", "train.checkpoint_s=0.01", f"model.mean={half}",
    f"model.std={half}", build=build, resume=True,
)
"""


def trained(folder: Path, processes: int) -> Path:
    """The run folder of a training in so many processes."""
    script = folder / "job.py"
    script.write_text(JOB)
    command = [sys.executable, str(script)]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        command[1:1] = [*launcher, "--nproc-per-node", str(processes)]
    out = folder / "run"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(out)], env=environment, check=True)
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("two"), 2)


def losses(run: Path) -> list[float]:
    lines = (run / METRICS).read_text().splitlines()
    return [json.loads(line)["train_loss"] for line in lines]


def largest_difference(one: Path, other: Path) -> float:
    left, right = load_file(one / MODEL), load_file(other / MODEL)
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def test_two_processes_give_what_one_gives(two: Path, tmp_path: Path) -> None:
    one = trained(tmp_path, 1)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert largest_difference(one, two) < 1e-4
