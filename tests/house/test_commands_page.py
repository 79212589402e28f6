"""The page of all commands is what the program says of itself."""

from pathlib import Path

import pytest
import typer

from mlguard.cli.app import app
from tests.house.programs import program

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "commands.md"


@pytest.fixture(scope="module")
def written() -> str:
    return program("docs/_site/commands.py").commands_page()


def test_the_page_is_what_the_program_writes(written: str) -> None:
    again = "write it again with `python docs/_site/commands.py`"
    assert PAGE.read_text() == written, again


def test_every_command_stands_on_it(written: str) -> None:
    for name in typer.main.get_command(app).commands:
        assert f"\n### mlguard {name}" in written
    assert "| `--not-after` |" in written
    assert str(Path.home()) not in written
