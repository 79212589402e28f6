"""Two processes of torchrun give what one gives, also when one of them is killed."""

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
import os, signal, sys, threading, time
from pathlib import Path
from torch import nn
from tests.runs import small_baseline

path, kill = Path(sys.argv[1]), sys.argv[2:] == ["kill"]

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 1))

def killer():
    while not (path / "metrics.jsonl").exists():  # so there is a checkpoint too
        time.sleep(0.005)
    (path.parent / "killed").touch()
    os.kill(os.getpid(), signal.SIGKILL)

first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
if kill and first and os.environ.get("RANK") == "1":
    threading.Thread(target=killer, daemon=True).start()
half = "[0.5, 0.5, 0.5]"
small_baseline(  # plain: every protected model has a transform of its own
    path, "train.epochs=12", "train.checkpoint_s=0.01", f"model.mean={half}",
    f"model.std={half}", build=build, resume=True,
)
"""


def trained(folder: Path, processes: int, *words: str) -> Path:
    """The run folder of a training in so many processes."""
    script = folder / "job.py"
    script.write_text(JOB)
    command = [sys.executable, str(script)]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        command[1:1] = [*launcher, "--max-restarts", "2", "--nproc-per-node"]
        command.insert(7, str(processes))
    out = folder / "run"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(out), *words], env=environment, check=True)
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


def test_a_killed_process_costs_nothing_but_time(two: Path, tmp_path: Path) -> None:
    killed = trained(tmp_path, 2, "kill")
    assert (tmp_path / "killed").exists()
    provenance = json.loads((killed / "provenance.json").read_text())
    assert provenance["resumed"], "it went on from a checkpoint"
    assert losses(killed) == pytest.approx(losses(two), rel=1e-9)
    assert largest_difference(killed, two) == 0
