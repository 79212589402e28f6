"""Print untrusted text on a terminal, with control characters escaped.

Every command prints through this module, and a test ensures it: names of files, keys
and classes, and contents of untrusted files, reach the terminal escaped.
"""

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

QUIET = "MLGUARD_QUIET"  # 1: no remarks and no progress, only answers and refusals


def printable(text: str) -> str:
    r"""Escape every character that is not printable.

    A refusal names files, fields and values that an adversary may have chosen. An
    escape sequence in them could hide a message, and a line break could forge one.

    Example:
        >>> printable("a\x1b[2Jb\n")
        'a\\x1b[2Jb\\n'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def say(line: str = "") -> None:
    """Print one line of an answer, on standard output."""
    print(printable(line))


def say_text(text: str) -> None:
    """Print a text of several lines; line breaks and tabs are kept."""
    for line in _lines(text):
        print("\t".join(map(printable, line.split("\t"))))


def say_json(text: str) -> None:
    """Print JSON; characters that are not printable get JSON's escapes."""
    for line in _lines(text):
        print("".join(x if x.isprintable() else json.dumps(x)[1:-1] for x in line))


def _lines(text: str) -> list[str]:
    """Split lines only at line feeds: no other character can forge a line."""
    return [one.removesuffix("\r") for one in text.removesuffix("\n").split("\n")]


def be_quiet() -> None:
    """Leave out remarks, warnings and progress, here and in what this one starts."""
    os.environ[QUIET] = "1"


def is_quiet() -> bool:
    """Whether remarks, warnings and progress are left out."""
    return os.environ.get(QUIET) == "1"


def shows(console: "Console") -> bool:
    """Whether a bar may be drawn: on a terminal, if nobody asked for quiet."""
    return console.is_terminal and not is_quiet()


def refuse(line: str) -> None:
    """Print one line of a refusal, on standard error."""
    print(printable(line), file=sys.stderr, flush=True)


def tell(line: str) -> None:
    """Print one line that is no answer, on standard error; unless it shall be quiet."""
    if not is_quiet():
        refuse(line)


def warn(message: str) -> None:
    """Print a warning."""
    tell(f"mlguard: warning: {message}")
