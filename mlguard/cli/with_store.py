"""What every `keys` command has in common: an open keystore, and answers as JSON."""

import functools
import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from keystore import Keystore
from mlguard.cli.printable import say_json, say_text
from mlguard.cli.unlock import Unlock, with_options

P = ParamSpec("P")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def with_store(
    command: Callable[Concatenate[Keystore, P], None],
) -> Callable[..., None]:
    """Give a command an open keystore, and the options that open it."""

    @functools.wraps(command)
    def run(*args: Any, unlock: Unlock, **kwargs: Any) -> None:
        with unlock.open() as store:
            command(store, *args, **kwargs)

    return with_options(run, list(inspect.signature(command).parameters.values())[1:])


def answer(value: object, text: str, *, as_json: bool) -> None:
    """Print an answer as a person or as a program wants it."""
    say_json(json.dumps(value, indent=2)) if as_json else say_text(text)
