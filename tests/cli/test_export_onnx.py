"""`mlguard export` and `bind` of an ONNX file, as a user types them, without torch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlguard.cli.app import run
from tests.foreign import models
from tests.foreign.models import written

ROOT = Path(__file__).parents[2]
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocker())
from mlguard.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "keystore.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    assert run(["keygen", "acme"]) == 0
    written(tmp_path / "m.onnx", models.linear())
    return tmp_path


def without(*blocked: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    program = BLOCKER.replace("{BLOCKED}", repr(set(blocked)))
    return subprocess.run(
        [sys.executable, "-c", program, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["export", "bind"])
def test_a_model_becomes_a_bundle_without_torch(command: str, home: Path) -> None:
    line = [command, "m.onnx", "--key", "acme", "--out", "m.mlgb"]
    done = without("torch", "torchvision", "safetensors", command=line)
    assert (done.returncode, done.stderr) == (0, "")
    assert "covered: 100.00% of the weights, 2 tensors" in done.stdout
    assert "compared with the model on x [1, 8]: all bits are equal" in done.stdout
    assert (home / "m.mlgb").exists()


def test_without_the_onnx_package_the_extra_is_named() -> None:
    line = ["export", "m.onnx", "--key", "acme", "--out", "m.mlgb"]
    done = without("onnx", command=line)
    assert done.returncode == 2
    assert "needs the package onnx" in done.stderr
    assert ".[onnx]" in done.stderr


def test_a_torch_program_without_the_train_extra_names_it(home: Path) -> None:
    (home / "m.pt2").write_bytes(b"PK")
    line = ["export", "m.pt2", "--key", "acme", "--out", "m.mlgb"]
    done = without("torch", "torchvision", command=line)
    assert done.returncode == 2
    assert "needs the package torch" in done.stderr
    assert ".[train]" in done.stderr
    assert not (home / "m.mlgb").exists()


def refused(
    capsys: pytest.CaptureFixture[str], line: list[str], code: int, words: str
) -> None:
    capsys.readouterr()
    before = sorted(os.listdir())
    assert run(line) == code
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--no-seal"], "without a seal"),
        (["--about", "gone.toml"], "gone.toml: No such file"),
        (["--example", "m.onnx"], "expected an .npz file"),
        (["--example", "gone.npz"], "gone.npz: no such file"),
    ],
)
def test_options_are_checked(
    more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["export", "m.onnx", "--key", "acme", "--out", "m.mlgb", *more]
    refused(capsys, line, 2 if more == ["--no-seal"] else 40, words)


def test_a_key_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["export", "m.onnx", "--out", "m.mlgb"]
    refused(capsys, line, 2, "give one with --key")


def test_options_of_onnx_files_are_refused_of_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["export", "run", "--out", "m.mlgb", "--freeze-inputs"]
    refused(capsys, line, 2, "need an .onnx file")


def test_options_of_runs_are_refused_of_onnx_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["bind", "m.onnx", "--key", "acme", "--out", "m.mlgb", "--method", "shf"]
    refused(capsys, line, 2, "the weights of an .onnx file are sealed")


def test_what_is_no_model_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "m.onnx").write_bytes(b"\x80\x04 a pickle")
    line = ["export", "m.onnx", "--key", "acme", "--out", "m.mlgb"]
    refused(capsys, line, 40, "is not an ONNX file")


def test_what_is_there_is_not_written_over(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "m.mlgb").write_text("mine")
    line = ["export", "m.onnx", "--key", "acme", "--out", "m.mlgb"]
    refused(capsys, line, 41, "already exists")
    assert (home / "m.mlgb").read_text() == "mine"


def test_inputs_and_what_is_said_come_from_files(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(home / "x.npz", x=np.ones((5, 8), np.float32))
    (home / "about.toml").write_text(
        '[task]\nname = "classification"\noutput = "y"\nclass_names = ["a", "b"]\n'
    )
    line = ["export", "m.onnx", "--key", "acme", "--out", "m.mlgb"]
    assert run([*line, "--example", "x.npz", "--about", "about.toml"]) == 0
    assert "compared with the model on x [5, 8]" in capsys.readouterr().out


def test_an_example_that_compares_nothing_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(home / "x.npz", x=np.ones((0, 8), np.float32))
    line = ["export", "m.onnx", "--key", "acme", "--out", "m.mlgb"]
    refused(capsys, [*line, "--example", "x.npz"], 40, "nothing would be compared")


def test_weights_that_stay_in_the_graph_are_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(home / "trees.onnx", models.trees())
    line = ["export", "trees.onnx", "--key", "acme", "--out", "trees.mlgb"]
    assert run(line) == 0
    said = capsys.readouterr().out
    assert "covered: 0.00% of the weights, 0 tensors" in said
    assert "stay in the graph: it is an attribute of TreeEnsembleRegressor" in said


def test_the_keystore_knows_who_needs_the_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["export", "m.onnx", "--key", "acme", "--out", "m.mlgb"]) == 0
    capsys.readouterr()
    assert run(["keys", "uses", "acme"]) == 0
    assert "bundle" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["export", "bind"])
@pytest.mark.parametrize(
    ("name", "words"),
    [("model.onn", "no such file or folder"), ("notes.txt", "is not a run folder or")],
)
def test_what_is_no_model_is_refused_before_torch_is_asked_for(
    command: str,
    name: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    monkeypatch.setitem(sys.modules, "torch", None)
    given = [command, str(tmp_path / name), "--key", "acme", "--out", "x"]
    assert run(given) == 40
    assert words in capsys.readouterr().err
