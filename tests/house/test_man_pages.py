"""The man pages: one for each command, with its options and examples."""

import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from mlguard.cli.app import app
from tests.house.programs import program

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return program("docs/_site/man.py").man_pages(ROOT)


def test_every_command_has_a_page_with_an_example(pages: dict[str, str]) -> None:
    commands = typer.main.get_command(app).commands
    named = {f"mlguard-{name.replace(' ', '-')}" for name in commands}
    assert [n for n in named if not any(page.startswith(n) for page in pages)] == []
    assert len(pages) > 50
    without = [name for name, text in pages.items() if ".SH EXAMPLES" not in text]
    assert without == ["mlguard.1"]


def test_a_page_shows_its_options_and_nothing_of_who_made_it(
    pages: dict[str, str],
) -> None:
    assert r"\fB\-\-not\-after\fR" in pages["mlguard-issue.1"]
    assert r"Default: \-\-mark." in pages["mlguard-issue.1"]
    assert "MLGUARD_KEYSTORE" in pages["mlguard.1"]
    home = str(Path.home())
    assert [name for name, text in pages.items() if home in text] == []


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff to read them")
def test_groff_has_no_complaint(pages: dict[str, str], tmp_path: Path) -> None:
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    files = sorted(str(path) for path in tmp_path.glob("*.1"))
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
