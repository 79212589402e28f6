"""Pair items one to one, as attacks do to obtain a permutation."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Order = NDArray[np.int64]


def assign(similarity: NDArray[np.float64]) -> Order:
    """Return the permutation that pairs rows and columns most alike, in sum.

    Shape:
        similarity  (n, n); numbers that are not finite count as unlike
        returns     (n,) int64, the column of each row

    Source: Crouse 2016, doi:10.1109/TAES.2016.140952 (scipy's algorithm); Kuhn 1955,
        the Hungarian method.
    """
    finite = np.where(np.isfinite(similarity), similarity, -1e9)
    _, columns = linear_sum_assignment(finite, maximize=True)
    return np.asarray(columns, dtype=np.int64)


def cosines(
    rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the cosine of every pair; 0 for a vector of zeros.

    Shape:
        rows     (n, d)
        columns  (m, d)
        returns  (n, m) float64
    """
    one, other = _unit(rows), _unit(columns)
    return np.asarray(one @ other.T)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.zeros_like(vectors)
    np.divide(vectors, lengths, out=unit, where=lengths > 0)
    return unit
