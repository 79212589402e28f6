"""Answers of commands: as text for a person, as JSON for a program."""

import json
from typing import Annotated

import typer

from mlguard.cli.printable import say_json, say_text

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def answer(value: object, text: str, *, as_json: bool) -> None:
    """Print an answer for a person, or as JSON for a program."""
    say_json(json.dumps(value, indent=2)) if as_json else say_text(text)
