"""Name what somebody may have meant who misspelt a name."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_LENGTH = 100  # characters of a name that is looked for; the time is their product


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known name nearest to another, or nothing.

    Example:
        >>> did_you_mean("camvd", ["camvid", "demo"])
        '; did you mean camvid?'
        >>> did_you_mean("zebra", ["camvid", "demo"])
        ''
    """
    near = get_close_matches(name[:MAX_LENGTH], list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def field_meant(path: str, known: Iterable[str]) -> str:
    """Return the same for a field, "section.field"; the section may be the fault.

    Example:
        >>> field_meant("epochs", ["train.epochs", "train.batch", "audit.batch"])
        '; did you mean train.epochs?'
        >>> field_meant("batch", ["train.epochs", "train.batch", "audit.batch"])
        '; did you mean train.batch or audit.batch?'
    """
    fields = {each: each.rpartition(".")[2] for each in known}
    field = path.rpartition(".")[2]
    elsewhere = [each for each, name in fields.items() if name == field]
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    return did_you_mean(path, fields) or did_you_mean(field, fields)
