"""How help is laid out: what comes first, and which panels group the rest.

The help of a command begins with one sentence, its arguments and its everyday options.
Panels of more special options follow, `ADVANCED` as the last one, then the other
paragraphs of its docstring and examples.
"""

import copy
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

# Of commands, in the order in which they are listed.
KEYS = "Keys"
PROTECT = "Protect and audit"
SHIP = "Ship to customers"
RUN = "Run"
LOOK = "Look and repair"
# Of commands in a table of their own. Those without a panel come first.
VERSIONS = "Versions, policy and uses"
STORE = "The keystore"
# Of options. Those without a panel come first, as "Options".
KEYSTORE = "Keystore and identity"
CUSTOMER = "A customer's file"
ONNX = "An ONNX file"
SPLIT = "A split model"
TRITON = "Triton"
ADVANCED = "Advanced"


LINE = 70  # characters of an example's line: what a narrow terminal shows whole
Function = TypeVar("Function", bound=Callable[..., Any])


class Command(TyperCommand):
    """A command whose help begins with what everybody needs.

    Args:
        examples: Lines for the end of its help. Each stands on a page of the docs.
        settings: As of any command of typer.
    """

    def __init__(self, *, examples: tuple[str, ...] = (), **settings: Any) -> None:
        super().__init__(**settings)
        self.examples = examples

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: one sentence, options by panels, and the rest below."""
        whole, params = self.help, self.params
        first, *rest = inspect.cleandoc(whole or "").split("\n\n")
        self.help, self.epilog = first, "\n\n".join([*rest, *_shown(self.examples)])
        self.params = sorted(map(_narrow, params), key=_is_advanced)
        try:
            super().format_help(ctx, formatter)
        finally:
            self.help, self.params, self.epilog = whole, params, None


def _narrow(param: Any) -> Any:
    """An option as it is shown: "N" for any number, and nothing for a flag."""
    shown = copy.copy(param)
    if getattr(shown, "is_flag", False):
        shown.metavar = ""
    elif getattr(shown, "min", None) is not None:
        shown.metavar, shown.min, shown.max = "N", None, None
    return shown


def _is_advanced(option: Any) -> bool:
    return getattr(option, "rich_help_panel", None) == ADVANCED


def _shown(examples: tuple[str, ...]) -> list[str]:
    if not examples:
        return []
    lines = "\n".join(map(_in_lines, examples))
    title = "Examples" if len(examples) > 1 else "Example"
    return [f"{title}:", f"```text\n{lines}\n```"]


def _in_lines(example: str) -> str:
    """A command line; a long one broken before an option, as a shell takes it."""
    words = re.split(r" (?=--)", example)
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return " \\\n    ".join(lines)


class Commands(typer.Typer):
    """A table of such commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(rich_markup_mode="markdown", add_completion=False, **settings)

    def command(
        self,
        name: str | None = None,
        *,
        examples: tuple[str, ...] = (),
        **settings: Any,
    ) -> Callable[[Function], Function]:
        """Add a command; `rich_help_panel` names its panel in the help of the table."""
        kind: Any = partial(Command, examples=examples)
        return super().command(name, cls=kind, **settings)
