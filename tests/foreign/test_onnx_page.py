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
from tests.cli.test_export_onnx import without
from tests.foreign import models
from tests.foreign.models import initializer, node, value, weights, written

PAGE = Path(__file__).parents[2] / "docs" / "models" / "onnx.md"
TEXT = PAGE.read_text()
COMMANDS = [line.strip() for line in TEXT.splitlines() if line.startswith("    mlgu")]
ABOUT, CLASSIFIER = re.findall(r"^```toml\n(.*?)^```", TEXT, re.S | re.M)
(EXAMPLE,) = re.findall(r"^```py\n(.*?)^```", TEXT, re.S | re.M)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model as the page has it, a photograph, and what the owner says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".config" / "mlguard" / "keystore.mlgk"
    place.parent.mkdir(parents=True)
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(place))
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
    (tmp_path / "classifier.toml").write_text(CLASSIFIER)
    whole = models.graph(
        [
            node("Conv", ["image", "w"], ["maps"], strides=[32, 32]),
            node("GlobalAveragePool", ["maps"], ["means"]),
            node("Flatten", ["means"], ["scores"]),
        ],
        [value("image", ["N", 3, 224, 224])],
        [value("scores", ["N", 2])],
        [initializer("w", weights(2, 3, 4, 4))],
    )
    written(tmp_path / "classifier.onnx", models.model(whole))
    (tmp_path / "photos").mkdir()
    Image.fromarray(images(50, 70, 3)).save(tmp_path / "photos" / "one.png")
    return tmp_path


# What a customer does not have.
BLOCKED = ("torch", "torchvision", "onnx", "safetensors")
CUSTOMERS = ("inspect", "predict hospital")


def test_from_a_file_to_a_customers_prediction(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["identity", "new", "customer.identity"]) == 0
    recipient = re.findall(r"mlguard-recipient-1-\S+", capsys.readouterr().out)
    (home / "customer.pub").write_text(recipient[0])
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        if " ".join(words).startswith(CUSTOMERS):
            done = without(*BLOCKED, command=words)
            assert done.returncode == 0, done.stderr
        else:
            assert run(words) == 0, command
    classes = (home / "classes" / "predictions.csv").read_text()
    assert re.search(r"one\.png,(cat|dog),", classes)
    shown = {}
    for folder in ("masks", "his-masks"):
        with Image.open(home / folder / "one.png") as mask:
            shown[folder] = np.asarray(mask)
        assert shown[folder].shape == (50, 70)
        assert len(set(shown[folder].ravel())) > 1
    agreement = np.mean(shown["masks"] == shown["his-masks"])
    assert agreement > 0.9  # his weights carry his mark


def test_the_first_block_of_the_readme_prints_what_it_says(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (PAGE.parents[2] / "README.md").read_text()
    (block,) = re.findall(r"^```text\n(.*?)^```", readme, re.S | re.M)
    for part in block.split("$ mlguard ")[1:]:
        command, *shown = part.splitlines()
        assert run(shlex.split(command)) == 0
        printed = capsys.readouterr().out
        for line in shown:  # names, sizes and ids differ
            assert line.split()[0] in printed


def test_the_example_runs(home: Path) -> None:
    assert run(["keygen", "acme"]) == 0
    line = ["export", "model.onnx", "--key", "acme", "--out", "acme.mlgb"]
    assert run(line) == 0
    names: dict[str, object] = {}
    exec(compile(EXAMPLE, PAGE.name, "exec"), names)
    plain = onnxruntime.InferenceSession(
        home / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (expected,) = plain.run(None, {"image": np.zeros((1, 3, 64, 64), np.float32)})
    np.testing.assert_array_equal(names["logits"], expected)
