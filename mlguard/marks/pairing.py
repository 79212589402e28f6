"""Find which leaked tensor is which: by name and shape, otherwise by likeness."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlguard.marks.alignment import ALIKE, Aligned, Matrix, align, as_rows, signature
from mlguard.marks.embedding import Array, Tensors

TRIES = 4  # pairs of tensors of one shape that are compared before giving up


def lay(leak: Tensors, original: Mapping[str, Matrix]) -> dict[str, list[Aligned]]:
    """Align every tensor of a leak with its counterpart in the original.

    A thief may leave a noisy copy under the original's name and use another tensor, so
    whatever is left over is a counterpart too, if it is alike.

    Args:
        leak: Tensors by any names; other tensors may be among them.
        original: The tensors that carry codes, as rows.

    Returns:
        Aligned tensors by the original's names, at least one each; only those that are
        alike.
    """
    found: dict[str, list[Aligned]] = {}
    rest = dict(leak)
    for name, own in original.items():
        for values in _views(leak[name]) if name in leak else ():
            if values.shape == own.shape and _accept(found, name, values, own):
                del rest[name]
                break
    if not rest:
        return found
    missing = {name: own for name, own in original.items() if name not in found}
    taken = _search(rest, missing, found)
    _more(
        {name: one for name, one in rest.items() if name not in taken}, original, found
    )
    return found


def _search(
    leak: Tensors, missing: Mapping[str, Matrix], found: dict[str, list[Aligned]]
) -> set[str]:
    """Try tensors of the same shape whose sizes are distributed most alike.

    Returns:
        The names of the leak's tensors that were found.
    """
    views = _signed(leak, {own.shape for own in missing.values()})
    taken: set[str] = set()
    for name, own in missing.items():
        near = [one for one in views if one.fits(own) and one.name not in taken]
        for one in _nearest(near, signature(own)):
            if _accept(found, name, one.values, own):
                taken.add(one.name)
                break
    return taken


def _more(
    leak: Tensors, original: Mapping[str, Matrix], found: dict[str, list[Aligned]]
) -> None:
    """Add every tensor that is left over to the counterparts of what it is alike to."""
    left = _signed(leak, {own.shape for own in original.values()})
    if not left:
        return
    owns = [_Signed(name, own, signature(own)) for name, own in original.items()]
    for one in left:
        near = [own for own in owns if one.fits(own.values)]
        for own in _nearest(near, one.sizes):
            if _accept(found, own.name, one.values, own.values):
                break


@dataclass(frozen=True)
class _Signed:
    """A tensor, as rows, and how its sizes are distributed."""

    name: str
    values: Matrix
    sizes: NDArray[np.float64]

    def fits(self, other: Matrix) -> bool:
        return self.values.shape == other.shape


def _signed(leak: Tensors, shapes: Collection[tuple[int, ...]]) -> list[_Signed]:
    return [
        _Signed(name, values, signature(values))
        for name, given in leak.items()
        for values in _views(given)
        if values.shape in shapes
    ]


def _nearest(some: list[_Signed], sizes: NDArray[np.float64]) -> list[_Signed]:
    return sorted(some, key=lambda one: float(np.abs(one.sizes - sizes).sum()))[:TRIES]


def _accept(
    found: dict[str, list[Aligned]], name: str, values: Matrix, own: Matrix
) -> bool:
    aligned = align(values, own)
    if aligned.alike < ALIKE:
        return False
    found.setdefault(name, []).append(aligned)
    return True


def _views(values: Array) -> Iterator[Matrix]:
    """Return a tensor as rows, and transposed where another library stores it so."""
    if values.ndim < 2 or not values.size:
        return
    rows = as_rows(values)
    yield rows
    if rows.shape[2] == 1:
        yield rows.transpose(1, 0, 2)
