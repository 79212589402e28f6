"""Read a key off a lifted stem whose zeros and equal weights are gone.

Whatever was done to its weights, a stem that still computes a plain convolution of
natural images agrees with one in all directions of such images, which are few. If a
correct guess is undone, a plain convolution explains almost everything; with a wrong
one, a rest remains. The rest is a quadratic form in the guess, so a step costs no
prediction.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mlguard.audit.attacks.search.assignment import Order
from mlguard.audit.attacks.stem.lifted import Grid
from mlguard.data.draws import Draws
from mlguard.models import Normalization
from mlguard.models.binding import LiftedStem
from mlguard.models.conditions import cut
from mlguard.transforms.blocks import CHANNELS

MAX_COLUMNS = 2_048  # columns of a stem's windows, for all outputs of a block
MAX_STEPS = 10_000  # steps of one climb; it ends long before, when none helps
SHAKEN = 6  # exchanges of positions before the next climb
RANDOM = 5  # random readings, for comparison
LEAST = 1e-9  # gain in the rest; a smaller one is rounding

Signs = NDArray[np.float64]
Forms = NDArray[np.float64]  # (L, L, cells²)


@dataclass(frozen=True)
class Reading:
    """One reading of a stem.

    Attributes:
        order: The plain position that each position of a transformed block shows.
        signs: 1 for every position, or -1 if it is inverted.
        rest: The share of the stem's output that no plain convolution explains; 0 to 1.
    """

    order: Order
    signs: Signs
    rest: float


@dataclass(frozen=True)
class StemFit:
    """The distance of a lifted stem from a plain convolution, for every reading.

    A stem has a column for each position of a block and each cell: one of its outputs
    and one of its blocks.

    Attributes:
        weights: Products of the stem's columns, summed over channels.
        form: The part of two columns that no plain convolution explains, on natural
            images.
        total: The same without the plain convolution, for comparison.

    Shape:
        weights, form, total  (L, L, cells²)
    """

    weights: Forms
    form: Forms
    total: Forms

    @classmethod
    def of(
        cls,
        stem: LiftedStem,
        plain: nn.Conv2d,
        images: Tensor,
        normalization: Normalization,
    ) -> "StemFit":
        """Prepare to read a stem.

        Args:
            stem: Of the stolen model.
            plain: The convolution it was made of; public, but for its weights.
            images: Any natural images; only their covariance is used.
            normalization: The normalization of the stolen model.

        Shape:
            images  (N, 3, H, W) uint8
        """
        std = torch.tensor(normalization.std, dtype=torch.float64).view(1, 3, 1, 1)
        places, size = stem.ratio**2, stem.block_size
        columns = cut(stem.windows.weight.detach().double().cpu() / std, size)
        known = columns.reshape(-1, places * columns.shape[1], columns.shape[2]).numpy()
        weights = np.einsum("oap,obq->pqab", known, known)
        among = np.kron(np.eye(places), window_covariance(stem, images, normalization))
        taps = Grid.of(stem, plain).taps_of_columns()
        given = among @ taps
        rest = among - given @ np.linalg.pinv(taps.T @ given) @ given.T
        length = columns.shape[2]
        return cls(
            _flat(np.asarray(weights)), _forms(rest, length), _forms(among, length)
        )

    def read(
        self, start: Order, *, moved: bool, inverted: bool, rounds: int, draws: Draws
    ) -> Reading:
        """Search for the reading with the least rest.

        Args:
            start: The positions that each may show; the order itself if none are moved.
            moved: Whether positions may have moved.
            inverted: Whether positions may be inverted.
            rounds: How often to perturb the result and climb again.
            draws: The random numbers of the perturbation.
        """
        signs = self._signs(start) if inverted else np.ones(len(start))
        best = self._climb(start, signs, moved=moved, inverted=inverted)
        for _ in range(rounds if moved else 0):
            order = best.order.copy()
            for _ in range(SHAKEN):
                one, other = (draws.between(0, len(order) - 1) for _ in "ab")
                order[[one, other]] = order[[other, one]]
            tried = self._climb(order, best.signs, moved=moved, inverted=inverted)
            best = min(best, tried, key=lambda reading: reading.rest)
        if not moved:
            return best
        best = self._recoloured(best)
        return self._climb(best.order, best.signs, moved=moved, inverted=inverted)

    def usual_rest(self, draws: Draws) -> float:
        """Return the mean rest of random readings, for comparison."""
        length = len(self.form)
        signs = np.ones(length)
        orders = [np.argsort(draws.words(length), kind="stable") for _ in range(RANDOM)]
        return float(np.mean([self.rest(order, signs) for order in orders]))

    def rest(self, order: Order, signs: Signs) -> float:
        """Return the share of the stem's output that no plain convolution explains."""
        weights = self.weights * np.outer(signs, signs)[:, :, None]
        total = np.vdot(self.total[np.ix_(order, order)], weights)
        return float(np.vdot(self.form[np.ix_(order, order)], weights) / total)

    def _recoloured(self, reading: Reading) -> Reading:
        """Exchange the colours of two rows, two columns or all, while that helps.

        No single exchange can do this: a block's outputs can agree in their own halves.
        """
        best = reading
        while (better := self._best_colours(best)).rest < best.rest:
            best = better
        return best

    def _best_colours(self, reading: Reading) -> Reading:
        best, order = reading, reading.order
        pixel, colour = order // CHANNELS, order % CHANNELS
        side = math.isqrt(len(order) // CHANNELS)
        pairs = list(itertools.combinations(range(side), 2))
        places = [(pixel // side, pairs), (pixel % side, pairs), (0 * pixel, [(0, 1)])]
        colours = [np.array(one) for one in itertools.permutations(range(CHANNELS))]
        for lines, chosen in places:
            for (one, other), *both in itertools.product(chosen, colours, colours):
                shown = np.where(lines == one, both[0][colour], colour)
                shown = np.where(lines == other, both[1][colour], shown)
                tried = pixel * CHANNELS + shown
                rest = self.rest(tried, reading.signs)
                if rest < best.rest:
                    best = Reading(tried, reading.signs, rest)
        return best

    def _signs(self, order: Order) -> Signs:
        """Return the signs that a spectral relaxation finds."""
        pairs = np.einsum("ijk,ijk->ij", self.form[np.ix_(order, order)], self.weights)
        _, vectors = np.linalg.eigh((pairs + pairs.T) / 2)
        return np.where(vectors[:, 0] < 0, -1.0, 1.0)

    def _climb(
        self, order: Order, signs: Signs, *, moved: bool, inverted: bool
    ) -> Reading:
        """Take the best exchange or inversion, until none helps."""
        order, signs = order.copy(), signs.copy()
        scale = LEAST * float(np.vdot(self.total, self.total)) ** 0.5
        for _ in range(MAX_STEPS):
            swaps, flips = self._gains(order, signs)
            swap = int(swaps.argmin()) if moved else 0
            flip = int(flips.argmin())
            by_swap = float(swaps.flat[swap]) if moved else math.inf
            by_flip = float(flips[flip]) if inverted else math.inf
            if min(by_swap, by_flip) > -scale:
                break
            if by_swap <= by_flip:
                one, other = divmod(swap, len(order))
                order[[one, other]] = order[[other, one]]
            else:
                signs[flip] *= -1
        return Reading(order, signs, self.rest(order, signs))

    def _gains(
        self, order: Order, signs: Signs
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what each exchange of positions, and each inversion, adds to the rest.

        Shape:
            returns  (L, L) and (L,)
        """
        form = self.form[np.ix_(order, order)]
        weights = self.weights * np.outer(signs, signs)[:, :, None]
        length, turned = len(order), form.transpose(1, 0, 2)
        # cost[i, j]: of position i in the place of j, while all others stay.
        cost = weights.reshape(length, -1) @ form.reshape(length, -1).T
        form_own, weights_own = np.diagonal(form).T, np.diagonal(weights).T
        alone = np.einsum("ik,ik->i", form_own, weights_own)
        pair = np.einsum("ijk,ijk->ij", form, weights)
        # The same of i and j themselves, which `cost` counts where they were.
        with_own = np.einsum("ijk,ik->ij", turned, weights_own)
        with_other = np.einsum("jk,ijk->ij", form_own, weights)
        alone_there = np.einsum("jk,ik->ij", form_own, weights_own)
        pair_turned = np.einsum("ijk,ijk->ij", turned, weights)
        before = np.diag(cost)[:, None] - alone[:, None] - pair
        outside = 2 * (cost - with_own - with_other - before)
        within = alone_there - alone[:, None] + pair_turned - pair
        swaps = outside + outside.T + within + within.T
        np.fill_diagonal(swaps, 0.0)
        return swaps, -4 * (np.diag(cost) - alone)


def too_wide(stem: LiftedStem) -> bool:
    """Whether a stem has too many columns."""
    side = stem.before + 1 + stem.after
    columns = stem.ratio**2 * side**2 * 3 * stem.block_size**2
    return columns > MAX_COLUMNS


@torch.no_grad()
def window_covariance(
    stem: LiftedStem, images: Tensor, normalization: Normalization
) -> NDArray[np.float64]:
    """Return the covariance of the windows that a stem sees, in pixels of [0, 1].

    Shape:
        images   (N, 3, H, W) uint8
        returns  (blocks·L, blocks·L)
    """
    size, side = stem.block_size, (stem.before + 1 + stem.after) * stem.block_size
    std = torch.tensor(normalization.std, dtype=torch.float64).view(1, 3, 1, 1)
    sums, products, number = torch.zeros(()), torch.zeros(()), 0
    for image in images:
        pixels = normalization(image[None].double() / 255) * std
        left, right = stem.before * size, stem.after * size
        padded = F.pad(pixels, (left, right, left, right))
        seen = padded.unfold(2, side, size).unfold(3, side, size)
        windows = cut(seen.permute(0, 2, 3, 1, 4, 5).flatten(0, 2), size).flatten(1)
        sums, products = sums + windows.sum(0), products + windows.T @ windows
        number += len(windows)
    mean = sums / number
    return np.asarray((products / number - torch.outer(mean, mean)).numpy())


def _forms(matrix: NDArray[np.floating[Any]], length: int) -> Forms:
    """Columns in the order cell, position. Shape: (cells·L, cells·L) to (L, L, …)."""
    cells = len(matrix) // length
    split = matrix.reshape(cells, length, cells, length)
    return _flat(split.transpose(1, 3, 0, 2))


def _flat(forms: NDArray[np.floating[Any]]) -> Forms:
    flat = forms.reshape(*forms.shape[:2], -1)
    return np.ascontiguousarray(flat, dtype=np.float64)
