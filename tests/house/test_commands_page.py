"""The page of all commands is what the program says of itself."""

import importlib.util
import sys
from pathlib import Path

import pytest
import typer

from mlguard.cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "commands.md"


@pytest.fixture(scope="module")
def written() -> str:
    place = ROOT / "docs" / "_site" / "commands.py"
    spec = importlib.util.spec_from_file_location("commands_page", place)
    maker = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(maker)
        return maker.commands_page()
    finally:
        sys.path[:] = before


def test_the_page_is_what_the_program_writes(written: str) -> None:
    again = "write it again with `python docs/_site/commands.py`"
    assert PAGE.read_text() == written, again


def test_every_command_stands_on_it(written: str) -> None:
    for name in typer.main.get_command(app).commands:
        assert f"\n### mlguard {name}" in written
    assert "| `--not-after` |" in written
    assert str(Path.home()) not in written
