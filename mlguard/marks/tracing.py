"""Name the customers whose code is in leaked weights.

The difference of leak and original is compared with the code of every customer. Codes
are drawn from a secret key, so to everybody without the key an innocent customer's code
is Gaussian noise, whatever was done to the leak: its z is a standard normal number, and
the chance of a false alarm is known and not estimated. docs/spec/marks-v1.md, sections
4 and 5.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys
from mlguard.marks.alignment import Aligned, Matrix, as_rows
from mlguard.marks.code import UNIT, checked, table, variance, words
from mlguard.marks.embedding import Tensors, deviations, markable
from mlguard.marks.pairing import lay

MAX_FALSE_ALARM = 1e-6  # over all customers together; a customer below this is named
# The smallest chance claimed: no code is harder to hit than the key is to guess.
LEAST_CHANCE = 2.0**-256
FREEDOM = 4  # degrees of freedom; changes by fine-tuning have long tails
PRIOR = 16  # elements' worth of the tensor's scale in the scale of a row
CLIPS, CLIPPED = 3, 3.0  # rounds, and standard deviations
FAR = 30.0  # deviations of its row; training moves no weight further, a thief may


@dataclass(frozen=True)
class Finding:
    """How much of one customer's code is in the leak.

    Attributes:
        customer: The caller's name for him.
        grant_id: 16 bytes.
        z: Standard deviations above the mean of an innocent customer's code.
        false_alarm: An upper bound of the chance that any innocent customer reaches z.
    """

    customer: str
    grant_id: bytes
    z: float
    false_alarm: float

    @property
    def named(self) -> bool:
        """Whether chance can be ruled out."""
        return self.false_alarm <= MAX_FALSE_ALARM


@dataclass(frozen=True)
class Trace:
    """The result of tracing a leak.

    Attributes:
        findings: One for each customer, the highest z first.
        alike: The mean cosine of the leak's tensors and the original's.
        compared: How many of the weights that carry codes were found in the leak.
        marked: How many weights of the original carry codes.
    """

    findings: tuple[Finding, ...]
    alike: float
    compared: int
    marked: int

    @property
    def named(self) -> tuple[Finding, ...]:
        """The customers whose code was found; empty if there is none."""
        return tuple(one for one in self.findings if one.named)

    @property
    def related(self) -> bool:
        """Whether the leak holds weights of the original at all."""
        return self.compared > 0


@dataclass(frozen=True)
class Evidence:
    """The evidence of each weight for a positive code, found without any key.

    Attributes:
        scores: By the original's names, in C order.
        alike: As in `Trace`.
        compared: As in `Trace`.
        marked: As in `Trace`.
    """

    scores: Mapping[str, NDArray[np.float32]]
    alike: float
    compared: int
    marked: int

    def z(self, subkeys: ModelSubkeys, grant_id: bytes) -> float:
        """Return z for the code of one grant; 0 where there is nothing to compare."""
        total = squares = 0.0
        for name, scores in self.scores.items():
            for part, drawn in words(subkeys, grant_id, name, scores.size):
                total += float(scores[part] @ _numbers()[drawn])
            squares += float(scores @ scores)
        return total / math.sqrt(squares * variance()) if squares else 0.0


def trace(
    leak: Tensors,
    original: Tensors,
    candidates: Mapping[str, bytes],
    subkeys: ModelSubkeys | Mapping[str, ModelSubkeys],
) -> Trace:
    """Find whose copy of a model has leaked.

    Args:
        leak: The leaked weights, by any names, in any precision.
        original: The owner's weights, without a mark.
        candidates: The grant id of every customer, by the caller's names.
        subkeys: The subkeys of the protected model; one set for each customer whose
            copy came from another export.

    Returns:
        A finding for each customer. Several are named if several copies were mixed.

    Raises:
        ValueError: No customers, or a grant id that is not 16 bytes.
    """
    if not candidates:
        raise ValueError("expected the grant id of at least one customer")
    for grant_id in candidates.values():
        checked(grant_id)
    evidence = gather(leak, original)
    findings = [
        Finding(customer, grant_id, z, false_alarm(z, len(candidates)))
        for customer, grant_id in candidates.items()
        for z in [evidence.z(_of(subkeys, customer), grant_id)]
    ]
    findings.sort(key=lambda one: -one.z)
    return Trace(tuple(findings), evidence.alike, evidence.compared, evidence.marked)


def _of(
    subkeys: ModelSubkeys | Mapping[str, ModelSubkeys], customer: str
) -> ModelSubkeys:
    return subkeys if isinstance(subkeys, ModelSubkeys) else subkeys[customer]


def gather(leak: Tensors, original: Tensors) -> Evidence:
    """Compare a leak with the original, before any customer's code is used."""
    own = {name: as_rows(one) for name, one in original.items() if markable(one)}
    aligned = lay(leak, own)
    scores = {
        name: np.sum([_scores(one, own[name]) for one in some], axis=0)
        for name, some in aligned.items()
    }
    laid = sum(own[name].size for name in aligned)
    alike = sum(
        max(one.alike for one in some) * own[name].size
        for name, some in aligned.items()
    )
    return Evidence(
        {name: one for name, one in scores.items() if one.any()},
        alike / max(laid, 1),
        sum(
            int(np.any([one.kept for one in some], axis=0).sum())
            for some in aligned.values()
        ),
        sum(one.size for one in own.values()),
    )


def _scores(aligned: Aligned, original: Matrix) -> NDArray[np.float32]:
    """Return the differences, weighted by how far each row was changed.

    Source: the score of Student's distribution: near 0 like the normal distribution's,
        and bounded, so that weights that fine-tuning moved far do not drown the rest.
    """
    kept = aligned.kept
    units = deviations(original).astype(np.float32)  # what the mark is a share of
    inverse = np.divide(1, units, out=np.zeros_like(units), where=units > 0)
    left = (aligned.values - original) * inverse[:, None, None]
    kept = kept & (np.abs(left) <= FAR)
    # The median: a thief writes what he likes into channels that he has switched off.
    middle = np.median(left[kept]) if kept.any() else 0
    left = np.where(kept, left - np.float32(middle), np.float32(0))
    squares = _clipped(np.square(left), kept)
    usual = squares.sum() / max(kept.sum(), 1)
    spread = (squares.sum((1, 2)) + PRIOR * usual) / (kept.sum((1, 2)) + PRIOR)
    spread = FREEDOM * spread[:, None, None] + np.square(left)
    scores = np.divide(left, spread, out=np.zeros_like(left), where=spread > 0)
    return np.asarray(scores.reshape(-1), dtype=np.float32)


def _clipped(squares: Matrix, kept: NDArray[np.bool_]) -> Matrix:
    """Return the squares of the differences, with outliers clipped."""
    for _ in range(CLIPS):
        usual = squares.sum() / max(kept.sum(), 1)
        squares = np.minimum(squares, CLIPPED**2 * usual)
    return squares


@lru_cache(maxsize=1)
def _numbers() -> NDArray[np.float32]:
    return np.asarray(table() / UNIT, dtype=np.float32)


def false_alarm(z: float, customers: int) -> float:
    """Return a bound on the chance that any of some innocent customers has this z.

    Source: Bonferroni's inequality, on the tail of the standard normal distribution.
    """
    tail = math.erfc(z / math.sqrt(2)) / 2
    return min(1.0, customers * max(tail, LEAST_CHANCE))
