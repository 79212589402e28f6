"""Write the man pages: `python docs/_site/man.py OUT` fills OUT/man1.

One page for each command, and mlguard(1) for what they share. Words, options and
examples are those of the site's pages of commands.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from pages import (  # noqa: E402
    FIRST,
    arguments_of,
    default_of,
    examples_of,
    leaves,
    options_by_panel,
)

from mlguard import __version__  # noqa: E402
from mlguard.cli.app import app  # noqa: E402
from mlguard.cli.exit_codes import EXIT_CODES  # noqa: E402

EXAMPLES = 4  # of a command
VARIABLE = re.compile(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| ([^|]+) \| [^|]*\|$", re.M)
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def man_pages(root: Path) -> dict[str, str]:
    """Return every page in the language of man, by the name of its file."""
    tree = typer.main.get_command(app)
    commands = dict(leaves(tree))
    shown = examples_of(root, list(commands))
    pages = {"mlguard.1": _overview(root, tree, commands)}
    for path, command in commands.items():
        lines = list(dict.fromkeys(line for line, _ in shown[path]))[:EXAMPLES]
        pages[f"{_name(path)}.1"] = _page(path, command, lines)
    return pages


def _overview(root: Path, tree: Any, commands: dict[str, Any]) -> str:
    body = [
        *_head("mlguard", tree.help),
        ".SH SYNOPSIS",
        r"\fBmlguard\fR [\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]...",
        ".SH COMMANDS",
        *(
            line
            for path, command in commands.items()
            for line in _entry(
                rf"\fB{_escaped(_name(path))}\fR(1)", _paragraphs(command)[0]
            )
        ),
        ".SH OPTIONS",
        *(line for option in tree.params for line in _option(option)),
        ".SH EXIT STATUS",
        *(
            line
            for row in EXIT_CODES
            for line in _entry(rf"\fB{row.number}\fR", row.meaning)
        ),
        ".SH ENVIRONMENT",
        *_variables(root),
    ]
    return "\n".join(body) + "\n"


def _page(path: str, command: Any, examples: list[str]) -> str:
    arguments = arguments_of(command)
    called = "".join(rf" \fI{_escaped(_argument(p))}\fR" for p in arguments)
    body = [
        *_head(_name(path), command.help),
        ".SH SYNOPSIS",
        rf"\fBmlguard {_escaped(path)}\fR [\fIOPTION\fR]...{called}",
        ".SH DESCRIPTION",
        *(line for text in _paragraphs(command) for line in (".PP", _escaped(text))),
    ]
    if arguments:
        body += [".SH ARGUMENTS"]
        for one in arguments:
            body += _entry(rf"\fI{_escaped(one.name.upper())}\fR", one.help or "")
    body += [".SH OPTIONS"]
    for panel, options in options_by_panel(command).items():
        body += [] if panel == FIRST else [f'.SS "{panel}"']
        body += [line for one in options for line in _option(one)]
    if examples:
        body += [".SH EXAMPLES"]
        for line in examples:
            body += [".PP", ".nf", *map(_escaped, line.splitlines()), ".fi"]
    body += [
        ".SH EXIT STATUS",
        r"0 if it succeeded; \fBmlguard\fR(1) lists the others.",
        ".SH SEE ALSO",
        r"\fBmlguard\fR(1)",
    ]
    return "\n".join(body) + "\n"


def _head(name: str, text: str) -> list[str]:
    first = inspect.cleandoc(text).split("\n\n")[0].replace("\n", " ").rstrip(".")
    return [
        f'.TH {name.upper()} 1 "" "mlguard {__version__}" "mlguard"',
        ".nh",  # command lines are copied
        ".ad l",
        ".SH NAME",
        rf"{_escaped(name)} \- {_escaped(first)}",
    ]


def _option(option: Any) -> list[str]:
    names = [*option.opts, *option.secondary_opts]
    value = "" if option.is_flag else rf" \fI{_escaped(_value(option))}\fR"
    told = [option.help or ""]
    if option.required:
        told.append("Needed.")
    if option.envvar:
        told.append(f"Variable: {option.envvar}.")
    if default := default_of(option):
        told.append(f"Default: {default}.")
    tag = ", ".join(rf"\fB{_escaped(name)}\fR" for name in names) + value
    return _entry(tag, " ".join(told))


def _value(option: Any) -> str:
    return option.metavar or option.name.upper()


def _argument(argument: Any) -> str:
    return argument.name.upper() + ("..." if argument.nargs == -1 else "")


def _entry(tag: str, text: str) -> list[str]:
    return [".TP", tag, _escaped(" ".join(text.split()))]


def _variables(root: Path) -> list[str]:
    page = (root / "docs" / "reference" / "environment.md").read_text()
    rows = VARIABLE.findall(page)
    return [
        line
        for name, told in rows
        for line in _entry(rf"\fB{_escaped(name)}\fR", LINK.sub(r"\1", told) + ".")
    ]


def _paragraphs(command: Any) -> list[str]:
    text = inspect.cleandoc(command.help or "").replace("\f", "")
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _name(path: str) -> str:
    return f"mlguard-{path.replace(' ', '-')}"


def _escaped(text: str) -> str:
    """Text that man shows as it stands, whatever its first character."""
    plain = text.replace("`", "").replace("\\", r"\e").replace("-", r"\-")
    ascii_ = "".join(c if c.isascii() else rf"\[u{ord(c):04X}]" for c in plain)
    return rf"\&{ascii_}" if ascii_.startswith((".", "'")) else ascii_


def main(out: Path) -> None:
    """Write the pages, and say how they are read."""
    folder = out / "man1"
    folder.mkdir(parents=True, exist_ok=True)
    pages = man_pages(ROOT)
    for old in set(folder.glob("mlguard*.1")) - {folder / name for name in pages}:
        old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text)
    print(f"{len(pages)} pages: man -l {folder / 'mlguard.1'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/man"))
