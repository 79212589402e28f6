"""The command in a recipe's header is one that works: parsed for all, run for some."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2

from mlguard.cli.app import run
from mlguard.recipe import read_recipe, recipe_text, shipped_recipes
from tests.house.test_docs import OPTION, options_by_command

ON_A_CPU = {"camvid", "camvid_bound", "demo", "fcn_mobilenet_voc"}
SMALLER = {  # the smallest sizes that each of them can be trained with
    "data.size": "[32,32]",
    "data.validation": "2",
    "train.epochs": "1",
    "train.batch": "2",
    "data.shapes_images": "[4,2,2]",
}


def header_commands(name: str) -> list[list[str]]:
    """The words of every indented command in a recipe's header, without `mlguard`."""
    lines = recipe_text(name).splitlines()
    header = "\n".join(line[1:] for line in lines if line.startswith("#"))
    joined = re.sub(r"\\\n\s+", "", header)
    return [shlex.split(x) for x in re.findall(r"^   mlguard (.*)$", joined, re.M)]


def set_in(words: list[str]) -> list[str]:
    return [value for word, value in pairwise(words) if word == "--set"]


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_command_of_a_header_exists_and_its_settings_are_read(name: str) -> None:
    commands = header_commands(name)
    assert commands
    for words in commands:
        line = shlex.join(words)
        assert set(OPTION.findall(f" {line}")) <= options_by_command()[words[0]], line
        if "--recipe" in words:
            assert words[words.index("--recipe") + 1] == name
            read_recipe(name, overrides=set_in(words))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A keystore, eight photographs of noise, and encoder weights in a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "keystore.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    assert run(["keygen", "acme"]) == 0
    draw = np.random.default_rng(0)
    for folder in ("camvid", "voc"):
        for kind, depth in (("images", 3), ("masks", 1)):
            (tmp_path / folder / kind).mkdir(parents=True)
            for number in range(8):
                pixels = draw.integers(0, 200 if depth == 3 else 3, (40, 40, depth))
                picture = Image.fromarray(pixels.astype(np.uint8).squeeze())
                picture.save(tmp_path / folder / kind / f"{number}.png")
        for split, ids in (
            ("train", "0123"),
            ("train_aug", "0123"),
            ("val", "45"),
            ("test", "67"),
        ):
            (tmp_path / folder / f"{split}.txt").write_text("\n".join(ids) + "\n")
    encoder = mobilenet_v2(weights=None).state_dict()
    features = {n: t for n, t in encoder.items() if n.startswith("features.")}
    save_file(features, tmp_path / "mobilenet_v2.safetensors")
    return tmp_path


@pytest.mark.parametrize("name", sorted(ON_A_CPU))
def test_the_commands_of_a_header_run(name: str, data: Path) -> None:
    smaller = [
        word
        for field, value in SMALLER.items()
        for word in ("--set", f"{field}={value}")
    ]
    for words in header_commands(name):
        changes = smaller if "--recipe" in words else []
        assert run([*words, *changes]) == 0, words
