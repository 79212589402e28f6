"""Estimate the linear map of a layer's columns from two matrices.

A place where a key acts has two matrices with a row for each channel (or position of a
block): what the stolen layer does with it, and what the ancestor's layer does. Up to
the noise of fine-tuning the first is `M @ second`, and each function here estimates M
under one assumption. The module knows no model, no key and no image.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import quadratic_assignment

from mlguard.audit.attacks.search.assignment import Order, assign, cosines

Matrix = NDArray[np.float64]

ROUNDS = 30  # of refining a pairing; it ends when nothing changes
SCALED = 0.5  # spread of log lengths above which channels were scaled on purpose


def directions(stolen: Matrix, known: Matrix) -> Matrix:
    """Pair rows by direction; signs, and scales where these were changed, follow.

    Assumes: a permutation, with signs and positive scales perhaps.

    Shape:
        stolen, known  (n, d)
        returns        (n, n), one number in each row and column

    Source: ArrowMatch, "Game of Arrows", USENIX Security 2025.
    """
    likeness = cosines(stolen, known)
    order = assign(np.abs(likeness))
    return _paired(stolen, known, order, likeness[np.arange(len(order)), order])


def rotation(stolen: Matrix, known: Matrix) -> Matrix:
    """Return the orthogonal matrix that best takes one to the other.

    Assumes: any rotation or reflection; permutations and signs are some.

    Shape:
        stolen, known  (n, d)
        returns        (n, n)

    Source: Schönemann 1966, doi:10.1007/BF02289451.
    """
    left, _, right = np.linalg.svd(stolen @ known.T)
    return np.asarray(left @ right)


def two_sided(stolen: Matrix, known: Matrix) -> Matrix:
    """Pair rows if the other side was rotated as well: stolen ≈ M @ known @ R.

    Angles between rows do not change with R, so pairing them is matching two graphs
    whose edges are the products of rows. It starts from each row's sorted angles to all
    others, or from the eigenvectors of all angles; then R and the pairing are improved
    in turn. What leaves least over counts.

    Assumes: a signed permutation on this side, any rotation on the other.

    Shape:
        stolen, known  (n, d)
        returns        (n, n), one number in each row and column

    Source: Umeyama 1988, doi:10.1109/34.6778, for eigenvectors; Vogelstein et al.
        2015, doi:10.1371/journal.pone.0121002 (scipy's `faq`), for graphs; Grave
        et al. 2019, arXiv:1805.11222, for taking turns.
    """
    starts = [_by_angles(stolen, known), _by_eigenvectors(stolen, known)]
    starts += [_as_graphs(stolen, known, start) for start in starts]
    starts += [_take_turns(stolen, known, start) for start in starts]
    order = max(starts, key=lambda one: _agreement(stolen, known, one))
    return _with_signs(stolen, known, order)


def mixtures(stolen: Matrix, known: Matrix, *, parts: int) -> Matrix:
    """Write every row as a sum of a few of the ancestor's.

    Assumes: rows were shuffled and mixed in groups of at most `parts`.

    Shape:
        stolen, known  (n, d)
        returns        (n, n), at most `parts` numbers in each row

    Source: orthogonal matching pursuit, Pati, Rezaiifar and Krishnaprasad 1993,
        doi:10.1109/ACSSC.1993.342465; against the mixed covers of GroupCover (Zhang
        et al. 2024, PMLR 235).
    """
    lengths = np.linalg.norm(known, axis=1, keepdims=True)
    units = np.divide(known, lengths, out=np.zeros_like(known), where=lengths > 0)
    found = np.zeros((len(stolen), len(known)))
    for row, target in enumerate(stolen):
        chosen: list[int] = []
        left = target
        for _ in range(min(parts, len(known))):
            gain = np.abs(units @ left)
            gain[chosen] = -1.0
            chosen.append(int(gain.argmax()))
            weights, *_ = np.linalg.lstsq(known[chosen].T, target, rcond=None)
            left = target - weights @ known[chosen]
        found[row, chosen] = weights
    return found


def explained(stolen: Matrix, known: Matrix, estimate: Matrix) -> float:
    """Return the mean cosine of stolen rows with the mapped rows of the ancestor."""
    return float(_along(cosines(stolen, estimate @ known), None).mean())


def inverse(estimate: Matrix) -> Matrix:
    """Return the inverse of a map, without directions that it hardly has."""
    return np.asarray(np.linalg.pinv(estimate, rcond=1e-3))


def _along(likeness: Matrix, order: Order | None) -> Matrix:
    rows = np.arange(len(likeness))
    return np.asarray(likeness[rows, rows if order is None else order])


def _paired(stolen: Matrix, known: Matrix, order: Order, likeness: Matrix) -> Matrix:
    """Return the signed, and possibly scaled, permutation of a pairing."""
    lengths = np.linalg.norm(stolen, axis=1), np.linalg.norm(known[order], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = lengths[0] / lengths[1]
        spread = np.nanstd(np.log(np.where(scales > 0, scales, np.nan)))
    usable = np.isfinite(scales) & (scales > 0)
    scales = np.where(usable & (spread > SCALED), scales, 1.0)
    estimate = np.zeros((len(order), len(known)))
    signs = np.where(likeness < 0, -1.0, 1.0)
    estimate[np.arange(len(order)), order] = scales * signs
    return estimate


def _by_angles(stolen: Matrix, known: Matrix) -> Order:
    first, second = (np.sort(edges, axis=1) for edges in _edges(stolen, known))
    apart = (
        np.square(first).sum(1)[:, None]
        - 2 * first @ second.T
        + np.square(second).sum(1)
    )
    return assign(-apart)


def _by_eigenvectors(stolen: Matrix, known: Matrix) -> Order:
    first, second = (
        np.abs(np.linalg.svd(rows, full_matrices=False)[0]) for rows in (stolen, known)
    )
    return assign(first @ second.T)


def _as_graphs(stolen: Matrix, known: Matrix, start: Order) -> Order:
    first, second = _edges(stolen, known)
    options = {
        "maximize": True,
        "P0": np.eye(len(start))[start],
        "rng": np.random.default_rng(0),  # unused from a given start
    }
    found = quadratic_assignment(first, second, options=options)
    return np.asarray(found.col_ind, dtype=np.int64)


def _take_turns(stolen: Matrix, known: Matrix, order: Order) -> Order:
    """Rotate the ancestor's rows and pair again, until nothing changes."""
    if len(stolen) <= stolen.shape[1]:
        return order  # some R fits every pairing
    for _ in range(ROUNDS):
        turned = _turned(stolen, known, order)
        better = assign(np.abs(cosines(stolen, turned)))
        if np.array_equal(better, order):
            break
        order = better
    return order


def _turned(stolen: Matrix, known: Matrix, order: Order) -> Matrix:
    """Return the ancestor's rows after the best R; signs come from angles."""
    signs = _signs(stolen, known, order)
    return known @ rotation((signs[:, None] * stolen).T, known[order].T).T


def _signs(stolen: Matrix, known: Matrix, order: Order) -> Matrix:
    """Return the signs of rows, up to a common sign, which R leaves open.

    Two rows have the same sign if both matrices have the same angle between them.
    """
    same = (stolen @ stolen.T) * (known[order] @ known[order].T)
    signs = np.sign(np.linalg.eigh(same)[1][:, -1])
    return np.where(signs < 0, -1.0, 1.0)


def _with_signs(stolen: Matrix, known: Matrix, order: Order) -> Matrix:
    estimate = np.zeros((len(order), len(known)))
    estimate[np.arange(len(order)), order] = _signs(stolen, known, order)
    unturned = np.vdot(stolen, estimate @ known)  # where R is the identity, it tells
    return -estimate if unturned < 0 else estimate


def _edges(stolen: Matrix, known: Matrix) -> tuple[Matrix, Matrix]:
    """Return the products of every two rows, centred and normalized."""
    first, second = (np.abs(rows @ rows.T) for rows in (stolen, known))
    return first / first.mean() - 1, second / second.mean() - 1


def _agreement(stolen: Matrix, known: Matrix, order: Order) -> float:
    first, second = _edges(stolen, known)
    return float(np.vdot(first, second[np.ix_(order, order)]))
