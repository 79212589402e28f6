"""Write docs/reference/commands.md: `python docs/_site/commands.py`.

Every command on one page, to be read without building the site. A test compares it with
what the program says.
"""

import inspect
import sys
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from pages import (  # noqa: E402
    FIRST,
    argument_row,
    arguments_of,
    leaves,
    option_row,
    options_by_panel,
    panel_of,
)

from mlguard.cli.app import app  # noqa: E402
from mlguard.cli.commands import COMMANDS  # noqa: E402
from mlguard.cli.panels import KEYSTORE  # noqa: E402

PAGE = ROOT / "docs" / "reference" / "commands.md"
HEAD = """\
# Commands on one page

    python docs/_site/commands.py

writes this page from the program, and a test compares the two; `mlguard COMMAND --help`
says the same. What all commands have in common: [on a terminal](terminal.md),
[environment variables](environment.md). Commands that open a keystore also take the
options of [the last section](#keystore-and-identity).
"""


def commands_page() -> str:
    """Return the text of the page."""
    tree = typer.main.get_command(app)
    found = dict(leaves(tree))
    text = [HEAD]
    for panel in dict.fromkeys(row.panel for row in COMMANDS.values()):
        text += [f"## {panel}", ""]
        for path, command in found.items():
            if panel_of(path) == panel:
                text += _command(path, command)
    options = options_by_panel(found["keys list"])[KEYSTORE]
    text += [f"## {KEYSTORE}", "", "| option | | default |", "|---|---|---|"]
    text += [option_row(option) for option in options]
    return "\n".join(text) + "\n"


def _command(path: str, command: Any) -> list[str]:
    arguments = arguments_of(command)
    called = "".join(f" {p.name.upper()}{' …' * (p.nargs == -1)}" for p in arguments)
    panels = options_by_panel(command)
    opens = f" Opens [a keystore](#{ANCHOR})." if panels.pop(KEYSTORE, None) else ""
    text = [f"### mlguard {path}", "", f"`mlguard {path} [OPTIONS]{called}`{opens}", ""]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        text += [" ".join(paragraph.split()), ""]
    if not arguments and not panels:
        return text
    text += ["| | | default |", "|---|---|---|"]
    text += [f"{argument_row(one)}  |" for one in arguments]
    for panel, options in panels.items():
        text += [] if panel == FIRST else [f"| **{panel}** | | |"]
        text += map(option_row, options)
    return [*text, ""]


ANCHOR = KEYSTORE.lower().replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(commands_page())
