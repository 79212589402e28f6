"""Find which leaked tensor is which: by name and shape, otherwise by likeness."""

from collections.abc import Iterator, Mapping

import numpy as np

from mlguard.marks.alignment import ALIKE, Aligned, Matrix, align, as_rows, signature
from mlguard.marks.embedding import Array, Tensors

TRIES = 4  # leaked tensors of one shape that are compared with one of the original


def lay(leak: Tensors, original: Mapping[str, Matrix]) -> dict[str, Aligned]:
    """Align every tensor of a leak with its counterpart in the original.

    Args:
        leak: Tensors by any names; other tensors may be among them.
        original: The tensors that carry codes, as rows.

    Returns:
        Aligned tensors by the original's names; only those that are alike.
    """
    found: dict[str, Aligned] = {}
    rest = dict(leak)
    for name, own in original.items():
        for values in _views(leak[name]) if name in leak else ():
            if values.shape == own.shape and _accept(found, name, values, own):
                del rest[name]
                break
    missing = {name: own for name, own in original.items() if name not in found}
    return found | _search(rest, missing) if missing else found


def _search(leak: Tensors, missing: Mapping[str, Matrix]) -> dict[str, Aligned]:
    """Try tensors of the same shape whose sizes are distributed most alike."""
    shapes = {own.shape for own in missing.values()}
    views = [
        (name, values, signature(values))
        for name, given in leak.items()
        for values in _views(given)
        if values.shape in shapes
    ]
    found: dict[str, Aligned] = {}
    taken: set[str] = set()
    for name, own in missing.items():
        seal = signature(own)
        near = [one for one in views if one[1].shape == own.shape]
        near = [one for one in near if one[0] not in taken]
        near.sort(key=lambda one: float(np.abs(one[2] - seal).sum()))
        for other, values, _ in near[:TRIES]:
            if _accept(found, name, values, own):
                taken.add(other)
                break
    return found


def _accept(found: dict[str, Aligned], name: str, values: Matrix, own: Matrix) -> bool:
    aligned = align(values, own)
    if aligned.alike >= ALIKE:
        found[name] = aligned
    return name in found


def _views(values: Array) -> Iterator[Matrix]:
    """Return a tensor as rows, and transposed where another library stores it so."""
    if values.ndim < 2 or not values.size:
        return
    rows = as_rows(values)
    yield rows
    if rows.shape[2] == 1:
        yield rows.transpose(1, 0, 2)
