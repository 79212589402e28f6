"""Undo a map between stolen and public weights, whatever method made it.

One attack for each way to estimate the map (maps.py); what they share is `Matching`.
`public-ancestor` knows the method and is exact for today's; these know only where the
key acts, so they also judge methods that mix channels in ways of their own.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from mlguard.audit.attacks.ancestor.maps import (
    Matrix,
    directions,
    explained,
    mixtures,
    rotation,
    two_sided,
)
from mlguard.audit.attacks.ancestor.sites import Sites, sites_of, undone
from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.controls import has_ancestor
from mlguard.audit.attacks.public_ancestor import ALIKE, NO_FILE
from mlguard.audit.findings import Budget, Outcome

UNDONE = "every map undone"


@dataclass(frozen=True)
class Matching(Attack):
    """Estimate the map of the columns at every keyed place, and undo it."""

    needs_weights: ClassVar[bool] = True

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the same attack for every budget."""
        return cls(seed=seed)

    @abstractmethod
    def estimate(self, stolen: Matrix, known: Matrix) -> Matrix:
        """Return the map of the rows. Shape: (n, d) twice to (n, n)."""

    def alike(self, stolen: Matrix, known: Matrix, estimate: Matrix) -> float:
        """Return how well the estimate explains the stolen rows: a mean cosine."""
        return explained(stolen, known, estimate)

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if not has_ancestor(scene.public):
            return NO_FILE
        sites = scene.once(sites_of)
        return "" if sites.compared else "; ".join(sites.unmatched)

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Return the places of the key where no weights can be compared."""
        return scene.once(sites_of).unmatched

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return the one variant."""
        return [(Variant(UNDONE, 0),)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Undo all estimated maps at once."""
        sites: Sites = scene.once(sites_of)
        maps = {
            one.layer: self.estimate(one.stolen, one.known) for one in sites.compared
        }
        alike = min(
            self.alike(one.stolen, one.known, maps[one.layer]) for one in sites.compared
        )
        yield Outcome(
            attack=self.name,
            variant=UNDONE,
            rung="T5",
            images=0,
            labels=0,
            queries=0,
            counts=scene.referee(scene.stolen.model, undone(scene, maps)),
            converged=True,
            notes=() if alike >= ALIKE else ("ancestor-unlike",),
        )


@dataclass(frozen=True)
class DirectionMatching(Matching):
    """Pair the columns of stolen and public layers by direction.

    Adversary: has the weights, where the key acts, and the public weights that training
               started from, or a sibling's: same public start, other seed or data.
    Budget:    one assignment for each place; a second for 1,280 channels.
    Success:   the correct key's score on other images.
    Limits:    finds permutations, signs and scales of channels. A rotation it calls
               `ancestor-unlike`.
    Source:    ArrowMatch, "Game of Arrows", USENIX Security 2025.
    """

    name: ClassVar[str] = "direction-matching"

    def estimate(self, stolen: Matrix, known: Matrix) -> Matrix:
        """Return a permutation, with signs, and with scales if these were changed."""
        return directions(stolen, known)


@dataclass(frozen=True)
class RotationMatching(Matching):
    """Rotate the columns of stolen layers onto those of the public ones.

    Adversary: as of `direction-matching`.
    Budget:    one singular value decomposition for each place; seconds.
    Success:   the correct key's score on other images.
    Limits:    finds every orthogonal map of channels, also one that no permutation is;
               not scales. A place with many more channels than outputs can be turned
               onto anything, so `explained` alone says little there.
    Source:    Schönemann 1966, doi:10.1007/BF02289451 (Procrustes).
    """

    name: ClassVar[str] = "rotation-matching"

    def estimate(self, stolen: Matrix, known: Matrix) -> Matrix:
        """Return a rotation or reflection."""
        return rotation(stolen, known)


@dataclass(frozen=True)
class TwoSidedMatching(Matching):
    """Pair columns by the angles between them, if outputs were rotated as well.

    Adversary: as of `direction-matching`; the sibling may have learned its layer from
               other initial weights, so that the outputs have other meanings.
    Budget:    two graph matchings for each place; a minute for MobileNetV2.
    Success:   the correct key's score on other images.
    Limits:    finds signed permutations. Where a layer has more outputs than inputs the
               angles between its columns are small numbers that fine-tuning moves, and
               a part of the channels comes out in a wrong order.
    Source:    Umeyama 1988, doi:10.1109/34.6778; Vogelstein et al. 2015,
               doi:10.1371/journal.pone.0121002; arXiv:1805.11222.
    """

    name: ClassVar[str] = "two-sided-matching"

    def estimate(self, stolen: Matrix, known: Matrix) -> Matrix:
        """Return a signed permutation; changes on the other side remain."""
        return two_sided(stolen, known)

    def alike(self, stolen: Matrix, known: Matrix, estimate: Matrix) -> float:
        """Return how alike the angles between the rows are, whatever the other side."""
        paired = estimate @ known
        return explained(stolen @ stolen.T, paired @ paired.T, np.eye(len(paired)))


@dataclass(frozen=True)
class MixtureRegression(Matching):
    """Write every stolen column as a sum of a few public ones, and solve for these.

    Adversary: as of `direction-matching`.
    Budget:    `parts` rounds of regression for each column; seconds.
    Success:   the correct key's score on other images.
    Limits:    finds columns that were shuffled and mixed in groups of at most `parts`.
               Of a layer with fewer outputs than inputs, columns are sums of others by
               chance.
    Source:    Pati, Rezaiifar and Krishnaprasad 1993, doi:10.1109/ACSSC.1993.342465;
               the covers it is meant for: GroupCover, Zhang et al. 2024, PMLR 235.

    Attributes:
        parts: Columns in a sum; GroupCover mixes 4.
    """

    name: ClassVar[str] = "mixture-regression"
    parts: int = 4

    def estimate(self, stolen: Matrix, known: Matrix) -> Matrix:
        """Return a matrix with few numbers in each row."""
        return mixtures(stolen, known, parts=self.parts)
