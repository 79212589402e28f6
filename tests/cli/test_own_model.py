"""A model that no recipe names: every command works with --build, or says so."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mlguard.cli.app import run
from tests.runs import HALF, SMALL

NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 1))

def number():
    return 3

def fixed():
    from torch import nn as layers
    class Fixed(layers.Module):
        def __init__(self):
            super().__init__()
            self.net = build()
        def forward(self, pixels):
            assert pixels.shape[-1] == 32, "32 columns or nothing"
            return self.net(pixels)
    return Fixed()
"""
OWN = ["--build", "mynet:build"]
COMMANDS = ("layers", "export", "audit", "rebind", "bind")


def without_it(command: str, out: Path) -> list[str]:
    """A command on the run that is not told what makes its model."""
    return {
        "layers": ["layers", "run"],
        "export": ["export", "run", "--out", f"{out}/new.mlgb"],
        "audit": ["audit", "run", "--out", f"{out}/report", "--incorrect-keys", "2"],
        "rebind": ["rebind", "run", "--key", "other", "--out", f"{out}/again"],
        "bind": ["bind", "run/baseline", "--key", "acme", "--out", f"{out}/twice"],
    }[command]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two keys, and a bound run of a model of one's own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("MLGUARD_KEYSTORE", str(home / "keystore.mlgk"))
        patch.setenv("MLGUARD_IDENTITY_FILE", str(home / "owner.identity"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        (home / "mynet.py").write_text(NET)
        weights(home, "build")
        weights(home, "fixed")
        for command in (
            ["keygen", "acme"],
            ["keygen", "other"],
            [*bind("build"), "--layers", "0", "--method", "channels", "--out", "run"],
        ):
            assert run(command) == 0, command
        yield home


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(home / "keystore.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(home / "owner.identity"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))


def weights(home: Path, function: str) -> None:
    torch.manual_seed(0)
    tensors = runpy.run_path(str(home / "mynet.py"))[function]().state_dict()
    save_file(tensors, home / f"{function}.safetensors")


def bind(function: str, *settings: str) -> list[str]:
    settings = settings or (*SMALL, *HALF)
    said = [word for one in settings for word in ("--set", one)]
    given = ["--recipe", "demo", *said, "--key", "acme"]
    return ["bind", f"{function}.safetensors", "--build", f"mynet:{function}", *given]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_not_told_what_makes_it_says_so(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(without_it(command, tmp_path)) == 40
    told = capsys.readouterr().err
    assert "was made by mynet:build, and no recipe can build it" in told
    assert "`--build MODULE:FUNCTION`" in told
    assert "Traceback" not in told


def test_every_command_works_on_it_with_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*without_it("layers", tmp_path), *OWN, "--json"]) == 0
    assert '"name": "0"' in capsys.readouterr().out, "the module's own layers"
    for command in ("export", "rebind", "bind"):
        assert run([*without_it(command, tmp_path), *OWN]) == 0
    # Two keys on so few images decide no claim of an audit.
    assert run([*without_it("audit", tmp_path), *OWN]) == 31
    report = json.loads((tmp_path / "report" / "audit.json").read_text())
    assert report["subject"]["architecture"] == "mynet:build"
    assert "--build mynet:build" in report["command"]
    images, bundle = str(tmp_path / "images"), str(tmp_path / "new.mlgb")
    masks = str(tmp_path / "masks")
    for words in (
        ["samples", "--recipe", "demo", "--out", images, "--count", "2"],
        ["predict", bundle, images, "--key", "acme", "--out", masks],
        ["inspect", bundle],
        ["keys", "uses", "acme"],
    ):
        assert run(words) == 0, words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mynet", "expected MODULE:FUNCTION"),
        ("nowhere:build", "does not make a model: ModuleNotFoundError"),
        ("mynet:other", "does not make a model: AttributeError"),
        ("mynet:number", "makes a int, not a module"),
    ],
)
def test_what_makes_no_model_is_refused(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["layers", "run", "--build", name]) == 40
    assert words in capsys.readouterr().err


def test_how_its_pixels_are_normalized_is_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*bind("build", *SMALL), "--out", "no"]) == 40
    assert "normalization of this model's pixels" in capsys.readouterr().err
    assert not (home / "no").exists()


def test_one_that_takes_one_size_is_refused_with_what_it_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights_only = ["--method", "weights", "--out", "sized"]
    assert run([*bind("fixed"), *weights_only, "--set", "data.size=[32, 32]"]) == 0
    capsys.readouterr()
    own = ["--build", "mynet:fixed"]
    assert run(["export", "sized", "--out", "sized.mlgb", *own]) == 40
    told = capsys.readouterr().err
    assert "does not take images of 64 x 96 pixels" in told
    assert "32 columns or nothing" in told
    assert not (home / "sized.mlgb").exists()
