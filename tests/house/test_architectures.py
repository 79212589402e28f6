"""The table of architectures is what the code builds."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import torch

from mlguard.models import ARCHITECTURES
from mlguard.recipe import recipe_text, shipped_recipes
from mlguard.recipe.sections import Backbone
from tests.house.programs import program

pytestmark = pytest.mark.trains  # nothing is trained; `make check` can do without it
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "architectures.md"
ROWS = {
    line.split("`")[1]: line
    for line in PAGE.read_text().partition("## Backbones")[0].splitlines()
    if re.match(r"\| `(?!model)", line)
}
SMALL = ("fcn_small", "cnn_small")  # whose rows are made again, in a moment


def test_every_architecture_has_its_row_and_its_parameters() -> None:
    assert list(ROWS) == list(ARCHITECTURES)
    for name, build in ARCHITECTURES.items():
        with torch.device("meta"):
            model = build(21)
        number = sum(parameter.numel() for parameter in model.parameters())
        assert f"| {number:,} |" in ROWS[name], name


@pytest.mark.parametrize("name", SMALL)
def test_a_row_is_what_the_program_writes(name: str) -> None:
    maker = program("docs/_site/architectures.py")
    with torch.device("meta"):
        assert maker.row(name, {}) == ROWS[name]


def test_every_recipe_stands_beside_its_architecture() -> None:
    for recipe in shipped_recipes():
        name = tomllib.loads(recipe_text(recipe))["model"]["name"]
        assert name not in ROWS or f"[{recipe}](" in ROWS[name]


def test_every_backbone_has_its_row() -> None:
    rows = PAGE.read_text().partition("## Backbones")[2]
    names = re.findall(r"^\| `(?!model)(\w+)`", rows, re.M)
    assert names == list(get_args(Backbone))
