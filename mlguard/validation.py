"""Words for what pydantic refuses: one line for each field at fault.

Knows no model. What a file holds is shown only where the caller asks for it: the file
may be a stranger's, or hold what is nobody's business.
"""

from typing import Any

from pydantic import ValidationError

MAX_OBJECTS = 20_000  # and lists, in a text that nobody vouches for yet
MAX_ITEMS = 200_000  # and fields
MAX_SHOWN = 100  # characters of a value or a field's name in a refusal


def refuse_crowded(
    data: bytes, *, objects: int = MAX_OBJECTS, items: int = MAX_ITEMS
) -> None:
    """Refuse JSON of more things than any of our texts has.

    Each thing at fault becomes an error of its own before the first is looked at, so
    that a megabyte of `{}` would cost gigabytes.

    Raises:
        ValueError: There are too many.
    """
    crowded = data.count(b"{") + data.count(b"[") > objects
    if crowded or data.count(b",") > items:
        raise ValueError(f"holds more than {objects} objects or {items} items")


def problems_of(
    error: ValidationError, *, whole: str = "", show: bool = False
) -> list[str]:
    """Every field at fault and what is wrong with it.

    A union names its field once for each branch, which is said once.

    Args:
        error: What pydantic raised.
        whole: What to call the whole, where no single field is at fault.
        show: Say what was found in the field too.
    """
    said: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        branches = (part for part in problem["loc"] if "[" not in str(part))
        field = shortened(".".join(map(str, branches))) or whole
        said.setdefault(field, _said(problem, show=show))
    return [f"{field}: {words}" if field else words for field, words in said.items()]


def shortened(text: str) -> str:
    """A text, cut where it is longer than a message should be."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _said(problem: Any, *, show: bool) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return "unknown field"
    if not show or problem["type"] in {"missing", "value_error"}:
        return message
    return f"{message}, got {_shown(problem['input'])}"


def _shown(value: Any) -> str:
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # repr() does not write the longest numbers
        return "what is too long to show"
