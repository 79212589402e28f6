"""Words of strangers on a terminal: what could command it is written out.

Every command speaks through this module, and a test sees to it: names of files, keys
and classes, and what stands in a stranger's file, reach the terminal escaped.
"""

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

QUIET = "MLGUARD_QUIET"  # 1: no remarks and no progress, only answers and refusals


def printable(text: str) -> str:
    r"""Write out every character that does not simply show itself.

    A refusal names files, fields and values that a stranger may have chosen. An escape
    sequence among them could hide what was said, a line break forge what was not.

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
    """Print a text of several lines; line breaks and tabs stay what they are."""
    for line in _lines(text):
        print("\t".join(map(printable, line.split("\t"))))


def say_json(text: str) -> None:
    """Print JSON; what does not simply show itself is written as JSON writes it."""
    for line in _lines(text):
        print("".join(x if x.isprintable() else json.dumps(x)[1:-1] for x in line))


def _lines(text: str) -> list[str]:
    """Lines by line feeds alone: no stranger makes a line with another character."""
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
    """Say something that stops nothing."""
    tell(f"mlguard: warning: {message}")
