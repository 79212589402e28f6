"""docs/models/onnx.md: its commands and its example run, on a model that fits it."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlguard.cli.app import run
from mlguard.engine import onnxruntime
from tests.bundles import images
from tests.foreign import models
from tests.foreign.models import initializer, node, value, weights, written

PAGE = Path(__file__).parents[2] / "docs" / "models" / "onnx.md"
TEXT = PAGE.read_text()
COMMANDS = [line.strip() for line in TEXT.splitlines() if line.startswith("    mlgu")]
(ABOUT,) = re.findall(r"^```toml\n(.*?)^```", TEXT, re.S | re.M)
(EXAMPLE,) = re.findall(r"^```py\n(.*?)^```", TEXT, re.S | re.M)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model as the page has it, a photograph, and what the owner says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "keystore.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    whole = models.graph(
        [node("Conv", ["image", "w", "b"], ["logits"], strides=[4, 4])],
        [value("image", ["N", 3, "H", "W"])],
        [value("logits", ["N", 3, "h", "w"])],
        [initializer("w", weights(3, 3, 4, 4)), initializer("b", weights(3))],
    )
    written(tmp_path / "model.onnx", models.model(whole))
    (tmp_path / "about.toml").write_text(ABOUT)
    (tmp_path / "photos").mkdir()
    Image.fromarray(images(50, 70, 3)).save(tmp_path / "photos" / "one.png")
    return tmp_path


def test_from_a_file_to_a_customers_prediction(home: Path) -> None:
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        assert run(shlex.split(command)[1:]) == 0, command
    with Image.open(home / "masks" / "one.png") as mask:
        assert mask.size == (70, 50)
        assert len(set(np.asarray(mask).ravel())) > 1
    names: dict[str, object] = {}
    exec(compile(EXAMPLE, PAGE.name, "exec"), names)
    plain = onnxruntime.InferenceSession(
        home / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (expected,) = plain.run(None, {"image": np.zeros((1, 3, 64, 64), np.float32)})
    np.testing.assert_array_equal(names["logits"], expected)
