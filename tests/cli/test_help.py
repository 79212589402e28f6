"""`--help`: commands in groups, and a first screen that is short."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from mlguard.cli import panels
from mlguard.cli.app import app, run
from mlguard.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
SCREEN = 30  # lines, up to the end of the everyday options
TITLE = re.compile(r"^╭─ (.*?) ─+╮$", re.M)
GROUPS = [panels.KEYS, panels.PROTECT, panels.SHIP, panels.RUN, panels.LOOK]


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def leaves(path: str, command) -> Iterator[tuple[str, panels.Command]]:
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name in children:
        yield from leaves(f"{path} {name}".strip(), children[name])


COMMANDS_BY_NAME = dict(leaves("", typer.main.get_command(app)))


def help_of(path: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run([*path.split(), "--help"]) == 0
    return capsys.readouterr().out


def first_screen(told: str) -> int:
    """The number of the line that ends the first panel of options."""
    lines = told.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("╭─ Options"))
    return next(n + 1 for n in range(start, len(lines)) if lines[n].startswith("╰"))


def test_commands_are_listed_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    told = help_of("", capsys)
    assert TITLE.findall(told) == ["Options", *GROUPS]
    assert {row.panel for row in COMMANDS.values()} == set(GROUPS)
    keys = told.partition("╭─ Keys")[2].partition("╰")[0]
    assert re.findall(r"^│ (\w+) ", keys, re.M) == ["keygen", "keys", "identity"]


def test_the_commands_of_keys_are_grouped_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    titles = TITLE.findall(help_of("keys", capsys))
    assert titles == ["Options", "Commands", panels.VERSIONS, panels.STORE]


@pytest.mark.parametrize("path", COMMANDS_BY_NAME)
def test_the_first_screen_of_a_command_is_short(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = help_of(path, capsys)
    assert first_screen(told) <= SCREEN
    titles = TITLE.findall(told)
    assert titles[:2] == ["Arguments", "Options"] or titles[0] == "Options"
    assert panels.ADVANCED not in titles[:-1]
    prose = told.partition("╭")[0]
    assert prose.count("\n\n") <= 2, "one sentence, and the rest below the options"


def test_a_long_first_screen_would_be_seen() -> None:
    assert first_screen("╭─ Options ─╮\n" + "│ --x │\n" * 40 + "╰───╯\n") == 42


def test_the_rest_of_the_text_and_the_examples_stand_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = help_of("predict", capsys)
    below = told.rpartition("╯")[2]
    assert "Masks are PNGs whose values are classes" in below
    assert "mlguard predict acme.mlgb photos/ --key acme" in below
    assert "Examples:" in below


def test_options_that_open_a_keystore_have_a_panel_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = help_of("keys list", capsys)
    first, _, opening = told.partition("╭─ Keystore and identity")
    assert "--keystore" in opening
    assert "--passphrase-file" in opening
    assert "--keystore" not in first


EXAMPLES = [
    (path, line) for path, each in COMMANDS_BY_NAME.items() for line in each.examples
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 35


@pytest.mark.parametrize(("path", "line"), EXAMPLES)
def test_an_example_is_of_its_command_and_stands_on_a_page(
    path: str, line: str
) -> None:
    assert line.startswith(f"mlguard {path} ")
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    assert any(line in re.sub(r"\\\n\s+", "", p.read_text()) for p in pages)


def test_each_example_has_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in ("export", "keys slots add"):
        lines = [line.strip() for line in help_of(path, capsys).splitlines()]
        assert set(COMMANDS_BY_NAME[path].examples) <= set(lines)


def test_an_example_is_short_enough_to_be_copied(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = help_of("issue", capsys)
    assert '--licensee "Hospital A" \\\n      --out hospital.mlgb' in re.sub(
        r" +\n", "\n", told
    )
