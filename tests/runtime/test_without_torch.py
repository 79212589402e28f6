"""The runtime runs where torch and onnx are not installed."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from mlguard.bundle import write_bundle
from mlguard.runtime import Session
from tests.bundles import KEY, images, small_bundle

BLOCKER = """
import sys
BLOCKED = {"torch", "torchvision", "onnx", "onnxscript", "safetensors", "accelerate"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocker())
"""
PREDICT = """
from pathlib import Path
import numpy as np
from mlguard.keys import ModelKey
from mlguard.runtime import Session
session = Session.open(Path("small.mlgb"), ModelKey(bytes(range(32))))
np.save("mask.npy", session.predict(np.load("images.npy")))
"""
ROOT = Path(__file__).parents[2]


def python(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bundle_predicts_without_torch_and_onnx(tmp_path: Path) -> None:
    pixels = images(1, 3, 9, 13)
    np.save(tmp_path / "images.npy", pixels)
    write_bundle(tmp_path / "small.mlgb", small_bundle())
    done = python(BLOCKER + PREDICT, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    expected = Session(small_bundle(), KEY).predict(pixels)
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), expected)


def test_the_blocker_blocks(tmp_path: Path) -> None:
    """Without this, the test above would prove nothing."""
    done = python(BLOCKER + "import torch", tmp_path)
    assert done.returncode != 0
    assert "torch is blocked" in done.stderr


def test_predict_is_importable_without_torch_and_onnx(tmp_path: Path) -> None:
    done = python(BLOCKER + "import mlguard.cli.predict", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
