"""Check that masks show the recipe's classes, before anything is trained.

A model learns nothing about a class without training pixels, and is not even scored on
it: masks of 0 and 255, which are the most common, train to a perfect mIoU of one class
if 255 is ignored.
"""

import numpy as np
from numpy.typing import NDArray

from mlguard import recipe
from mlguard.errors import DatasetError

MOST_VALUES = 8  # listed in one message

Counts = NDArray[np.int64]


def check_labelled(counts: Counts, spec: recipe.Data, *, masks: int) -> None:
    """Refuse masks in which no pixel has a class.

    Args:
        counts: Pixels of each value 0 … 255.
        spec: The recipe's [data].
        masks: How many masks were counted.

    Raises:
        DatasetError: All pixels are ignored.
    """
    if not counts[: spec.classes].any():
        raise DatasetError(
            f"no pixel of the {masks} masks has a class: all have "
            f"{spec.ignore_index}, the ignore_index",
            hint="there is nothing to learn or to score; check that these are the "
            "masks",
        )


def missing_classes(counts: Counts, spec: recipe.Data, *, masks: int) -> str:
    """Return a note about classes without training pixels; empty if there are none.

    Args:
        counts: Pixels of each value 0 … 255 in the masks of the training split.
        spec: The recipe's [data].
        masks: How many masks were counted.

    Raises:
        DatasetError: Only one class has any, so there is nothing to learn.
    """
    seen = np.flatnonzero(counts[: spec.classes])
    lacking = [n for i, n in enumerate(spec.class_names) if i not in seen]
    if not lacking:
        return ""
    found = f"the {masks} training masks hold {values_found(counts, spec)}"
    if len(seen) == 1:
        only = spec.class_names[int(seen[0])]
        raise DatasetError(
            f"only the class {only} has training pixels: {found}",
            hint=_meant(counts, spec)
            or "one class alone cannot be learned; check the masks and the list",
        )
    named = ", ".join(lacking)
    return f"no training pixel has the class {named}: {found}"


def values_found(counts: Counts, spec: recipe.Data) -> str:
    """Return the values of masks with their shares, the most frequent first.

    Example:
        "the value 0 in 60 % and 255 (ignored) in 40 % of their pixels"
    """
    order = [int(v) for v in np.argsort(-counts, kind="stable") if counts[v]]
    total = int(counts.sum())
    shown = [
        f"{v}{' (ignored)' if v == spec.ignore_index else ''} "
        f"in {100 * int(counts[v]) / total:.3g} %"
        for v in order[:MOST_VALUES]
    ]
    more = ", …" if len(order) > MOST_VALUES else ""
    return f"the value {', '.join(shown)}{more} of their pixels"


def _meant(counts: Counts, spec: recipe.Data) -> str:
    """Return advice for masks in which the ignored value replaces a class."""
    lacking = [i for i in range(spec.classes) if not counts[i]]
    if not counts[spec.ignore_index] or not lacking:
        return ""
    number, ignored = lacking[0], spec.ignore_index
    return (
        f"{ignored} is data.ignore_index, so such pixels are ignored; if they are the "
        f"class {spec.class_names[number]}, write its number {number} into the masks "
        f"instead of {ignored}"
    )
