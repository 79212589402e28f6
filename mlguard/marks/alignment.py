"""Align a leaked tensor with the original: restore the order and scale of channels.

An adversary with a model can permute and rescale its channels without changing what it
computes. A tensor is seen as rows (output channels) of columns (input channels) of
kernels, and compared up to both scalings, so that no graph is needed. Only the original
is used here, never a customer's code: the result cannot favour any customer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.5  # the least cosine of two tensors that are relatives
IN_PLACE = 0.9  # above this, channels were not moved
BALANCING = 20  # rounds, of rows and then columns
ROUNDS = 3  # of matching columns, then rows
FITS = 4  # rounds, of factors of rows and then columns
QUANTILES = 64
MOST_ROUNDS = 32  # rounds of pairing; channels left then can hardly be told apart
TINY = 1e-30  # a channel that is smaller than this is off

Matrix = NDArray[np.float32]
Order = NDArray[np.int64]


@dataclass(frozen=True)
class Aligned:
    """A leaked tensor, in the original's order of channels and scale.

    Attributes:
        values: (O, I, K), comparable with the original's.
        kept: The elements that the leak still has: not pruned, and of a known scale.
        alike: The cosine of the leaked tensor and the original.
    """

    values: Matrix
    kept: NDArray[np.bool_]
    alike: float


def as_rows(values: NDArray[Any]) -> Matrix:
    """View a tensor as rows of columns of kernels; values that are not finite become 0.

    Unsigned integers have an unknown zero point; the mean is near enough.

    Shape:
        values   (O, I, …)
        returns  (O, I, K) float32
    """
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = values.astype(np.float32).reshape(*values.shape[:2], -1)
    if values.dtype.kind == "u":
        matrix -= matrix.mean()
    return np.nan_to_num(matrix, copy=False, posinf=0.0, neginf=0.0)


def align(leak: Matrix, original: Matrix) -> Aligned:
    """Undo permuted, rescaled and negated channels, as far as they can be matched."""
    values, alike = leak, likeness(leak, original)
    if alike < IN_PLACE:
        matched = _reorder(leak, original)
        if (better := likeness(matched, original)) > alike:
            values, alike = matched, better
    kept = (values != 0) | (original == 0)
    # Balanced, so that no channel decides the scales of others by its size.
    even = balanced(values)
    rows, columns = _scales(even, original, kept)
    scale = rows[:, None, None] * columns[:, None]
    known = np.abs(scale) > TINY
    scaled = np.divide(even, scale, out=original.copy(), where=known)
    return Aligned(scaled, kept & known, alike)


def likeness(leak: Matrix, original: Matrix) -> float:
    """Return the cosine of two tensors, up to a factor for each row and each column.

    Only elements that the leak still has count, so that pruning does not lower it.
    """
    one, other = balanced(leak), balanced(original)
    other = other * (one != 0)
    rows, columns = _scales(one, other, one != 0)
    fitted = other * (rows[:, None, None] * columns[:, None])
    lengths = float(np.linalg.norm(one) * np.linalg.norm(fitted))
    return float(np.vdot(one, fitted)) / lengths if lengths else 0.0


def signature(values: Matrix) -> NDArray[np.float64]:
    """Return quantiles of sizes, which no permutation or scale of channels changes."""
    sizes = np.abs(balanced(values)).ravel()
    return np.quantile(sizes, np.linspace(0.02, 0.98, QUANTILES))


def pairs(likenesses: NDArray[Any]) -> Order:
    """Pair rows with columns one to one, mutual best matches first.

    Where the matches are clear, this is the best assignment, and it needs no solver.

    Shape:
        likenesses  (n, n)
        returns     (n,) int64, the column of each row
    """
    found = np.zeros(len(likenesses), dtype=np.int64)
    rows = columns = np.arange(len(likenesses))
    for _ in range(MOST_ROUNDS):
        left = likenesses[np.ix_(rows, columns)]
        wanted, wanting = left.argmax(1), left.argmax(0)
        mutual = wanting[wanted] == np.arange(rows.size)
        found[rows[mutual]] = columns[wanted[mutual]]
        columns = np.delete(columns, wanted[mutual])
        rows = rows[~mutual]
        if not rows.size:
            break
    found[rows] = columns
    return found


def balanced(values: Matrix) -> Matrix:
    """Rescale rows and columns until each has the mean square 1.

    Two tensors that differ only by scales of channels become equal.

    Source: Sinkhorn and Knopp 1967, doi:10.2140/pjm.1967.21.343, on the squares.
    """
    squares = np.square(values, dtype=np.float64).mean(2)
    rows, columns = np.ones(len(squares)), np.ones(squares.shape[1])
    for _ in range(BALANCING):
        rows = _reciprocal(squares @ columns / len(columns))
        columns = _reciprocal(rows @ squares / len(rows))
    scale = np.sqrt(rows[:, None] * columns)
    return np.asarray(values * scale[:, :, None], dtype=np.float32)


def _reorder(leak: Matrix, original: Matrix) -> Matrix:
    """Find the order of rows and columns from sizes alone: signs do not matter."""
    one, other = (_centred(np.abs(balanced(side))) for side in (leak, original))
    columns: Order = np.arange(leak.shape[1])
    if leak.shape[1] == 1:
        rows = pairs(_products(other, one))
        return leak[rows]
    rows = pairs(_products(np.sort(other, axis=1), np.sort(one, axis=1)))
    for _ in range(ROUNDS):
        turned = other.transpose(1, 0, 2), one[rows].transpose(1, 0, 2)
        columns = pairs(_products(*turned))
        rows = pairs(_products(other, one[:, columns]))
    return leak[rows][:, columns]


def _scales(
    values: Matrix, original: Matrix, kept: NDArray[np.bool_]
) -> tuple[Matrix, Matrix]:
    """Fit a factor for each row and each column, by alternating least squares."""
    shared = np.where(kept, original, np.float32(0))
    products, squares = (shared * values).sum(2), np.square(shared).sum(2)
    rows = np.ones(len(products), dtype=np.float32)
    columns = np.ones(products.shape[1], dtype=np.float32)
    for _ in range(FITS):
        rows = (products @ columns) * _reciprocal(squares @ np.square(columns))
        columns = (rows @ products) * _reciprocal(np.square(rows) @ squares)
    return rows, columns


def _products(rows: Matrix, columns: Matrix) -> Matrix:
    """Return minus half the squared distance of every pair, up to constants."""
    one, other = (side.reshape(len(side), -1) for side in (rows, columns))
    middle = one.mean(0)
    one, other = one - middle, other - middle
    lengths = np.square(one).sum(1)[:, None] + np.square(other).sum(1)
    return np.asarray(one @ other.T - lengths / 2)


def _centred(values: Matrix) -> Matrix:
    return np.asarray(values - values.mean(), dtype=np.float32)


def _reciprocal(values: NDArray[Any]) -> NDArray[Any]:
    found = np.zeros_like(values)
    return np.asarray(np.divide(1, values, out=found, where=values > TINY))
