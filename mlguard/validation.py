"""Put pydantic's refusals into words: one line for each field at fault.

The module knows no model. Contents of a file are shown only if the caller asks for it:
the file may be hostile, or hold secrets.
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from mlguard.nearest import did_you_mean, field_meant

MAX_OBJECTS = 20_000  # and lists, in a text that is not yet trusted
MAX_ITEMS = 200_000  # and fields
MAX_SHOWN = 100  # characters of a value or a field's name in a refusal
MAX_GUESSES = 20  # faults for which the nearest name is looked for
QUOTED = re.compile(r"'([^']*)'")


def refuse_crowded(
    data: bytes, *, objects: int = MAX_OBJECTS, items: int = MAX_ITEMS
) -> None:
    """Refuse JSON with more objects or items than any of our texts has.

    Each fault becomes an error of its own before the first is looked at, so that a
    megabyte of `{}` would cost gigabytes.

    Raises:
        ValueError: There are too many.
    """
    crowded = data.count(b"{") + data.count(b"[") > objects
    if crowded or data.count(b",") > items:
        raise ValueError(f"holds more than {objects} objects or {items} items")


def problems_of(
    error: ValidationError,
    *,
    whole: str = "",
    show: bool = False,
    known: Sequence[str] = (),
) -> list[str]:
    """Return every field at fault and what is wrong with it.

    A union names its field once for each branch; here it is named once.

    Args:
        error: The error that pydantic raised.
        whole: The name of the whole, if no single field is at fault.
        show: Whether to show the field's value too, and what may have been meant.
        known: All sections, and all fields as "section.field", to name the nearest to
            one that is unknown.
    """
    said: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        branches = (part for part in problem["loc"] if "[" not in str(part))
        field = shortened(".".join(map(str, branches))) or whole
        if field not in said:
            guess = len(said) < MAX_GUESSES
            said[field] = _said(problem, show=show) + (
                _meant(problem, field, known, show=show) if guess else ""
            )
    return [f"{field}: {words}" if field else words for field, words in said.items()]


def shortened(text: str) -> str:
    """Return a text, cut to the length of a message."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _said(problem: Any, *, show: bool) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return "unknown field"
    if not show or problem["type"] in {"missing", "value_error"}:
        return message
    return f"{message}, got {_shown(problem['input'])}"


def _meant(problem: Any, field: str, known: Sequence[str], *, show: bool) -> str:
    """Name the field, or the value of a closed list, nearest to the one given."""
    if problem["type"] == "extra_forbidden" and known:
        return field_meant(field, known)
    given = problem["input"]
    if problem["type"] == "literal_error" and show and isinstance(given, str):
        return did_you_mean(given, QUOTED.findall(problem["ctx"]["expected"]))
    return ""


def _shown(value: Any) -> str:
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # repr() does not write the longest numbers
        return "a value too long to show"
