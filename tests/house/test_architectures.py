"""The table of architectures is what the code builds."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from mlguard.models import ARCHITECTURES

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
    place = ROOT / "docs" / "_site" / "architectures.py"
    spec = importlib.util.spec_from_file_location("architectures", place)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    with torch.device("meta"):
        assert maker.row(name, {}) == ROWS[name]
