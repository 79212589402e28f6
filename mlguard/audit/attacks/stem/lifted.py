"""Read a key off the zeros and the equal weights of a lifted stem.

A lifted stem is an ordinary convolution written over whole blocks. The zeros of a
position of a block show which pixel it is; positions alike on the grid of strides have
the same taps, once for each colour. A key that moves or inverts positions moves and
inverts their columns, and the pattern with them.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mlguard.audit.attacks.search.assignment import assign, cosines
from mlguard.audit.attacks.search.guesses import Guess, GuessSpace
from mlguard.models.binding import LiftedStem
from mlguard.models.conditions import cut
from mlguard.transforms.blocks import CHANNELS

TINY = 1e-9  # of the largest weight; below this a weight is zero

Option = tuple[tuple[int, ...], tuple[int, ...]]  # colours of a class, and their signs


@dataclass(frozen=True)
class Structure:
    """What is known about every position of a block, up to some choices.

    Pixels form classes of equal places on the grid of strides. Within a class it is
    known which positions have the same colour, and which of them are inverted with
    respect to each other; which colour that is, and whether it is inverted, is unknown.

    Attributes:
        pixels: The pixel of every position, M·row + column.
        classes: The class of every position.
        colours: Which of the three colours of its class each position has.
        signs: 1 or -1 for every position, relative to its colour in its class.
        zeros: The share of weights that are zero, or not, as expected.
    """

    pixels: NDArray[np.int64]
    classes: NDArray[np.int64]
    colours: NDArray[np.int64]
    signs: NDArray[np.int64]
    zeros: float

    def replaced(
        self, order: NDArray[np.int64], signs: NDArray[np.float64]
    ) -> "Structure":
        """Return the structure of a better reading, over all pixels together.

        Args:
            order: The plain position that each position shows.
            signs: 1 or -1 for every position.
        """
        return Structure(
            pixels=order // CHANNELS,
            classes=np.zeros_like(
                order
            ),  # so one choice is left, not one for each class
            colours=order % CHANNELS,
            signs=signs.astype(np.int64),
            zeros=self.zeros,
        )

    def guess(self, space: GuessSpace, choice: dict[int, Option]) -> Guess:
        """Return the key that follows from a choice for every class."""
        colours, signs = self.colours.copy(), self.signs.copy()
        for one, (permuted, flipped) in choice.items():
            own = self.classes == one
            colours[own] = np.asarray(permuted)[self.colours[own]]
            signs[own] *= np.asarray(flipped)[self.colours[own]]
        order = self.pixels * CHANNELS + colours
        if "shf" not in space.methods:
            order = np.arange(len(order))
        return space.signed(order, signs < 0)


def options(methods: tuple[str, ...]) -> list[Option]:
    """Return the options for one class, the simplest first."""
    moved, inverted = "shf" in methods, "np" in methods
    orders = list(itertools.permutations(range(CHANNELS))) if moved else [(0, 1, 2)]
    signs = (
        list(itertools.product((1, -1), repeat=CHANNELS)) if inverted else [(1,) * 3]
    )
    return [(order, sign) for order in orders for sign in signs]


def after(first: Option, second: Option) -> Option:
    """Return the option that combines one after the other."""
    colours, signs = first
    return (
        tuple(second[0][colour] for colour in colours),
        tuple(
            sign * second[1][colour]
            for sign, colour in zip(signs, colours, strict=True)
        ),
    )


def structure_of(stem: LiftedStem, plain: nn.Conv2d, *, moved: bool) -> Structure:
    """Read the structure off a stem's weights.

    Args:
        stem: The stem of the stolen model.
        plain: The convolution that it was made from; public, except its weights.
        moved: Whether positions may have moved; if not, only signs are sought.
    """
    grid = Grid.of(stem, plain)
    weights = _columns(stem)
    reached = np.abs(weights).max(1) > TINY * np.abs(weights).max()
    pixels = np.arange(len(weights)) // CHANNELS
    fit = (reached[:, None] == grid.reached[None]).mean((2, 3, 4, 5))
    if moved:
        pixels = assign(_likeness(weights, grid.reached)) // CHANNELS
    taps = np.stack(
        [grid.taps(w, int(pixel)) for w, pixel in zip(weights, pixels, strict=True)]
    )
    classes = grid.classes[pixels]
    colours = np.arange(len(weights)) % CHANNELS
    signs = np.ones(len(weights), dtype=np.int64)
    for one in np.unique(classes):
        first = np.flatnonzero(pixels == pixels[classes == one].min())
        for pixel in np.unique(pixels[classes == one]):
            own = np.flatnonzero(pixels == pixel)
            alike = cosines(taps[own], taps[first])
            slot = assign(np.abs(alike)) if moved else np.arange(CHANNELS)
            colours[own] = slot
            signs[own] = np.where(alike[np.arange(CHANNELS), slot] < 0, -1, 1)
    zeros = float(fit[np.arange(len(fit)), pixels].mean())
    return Structure(pixels, classes, colours, signs, zeros)


@dataclass(frozen=True)
class Grid:
    """The map from each weight of a lifted convolution to a tap of the plain one.

    Attributes:
        rows: The row of the tap for a pixel's row, an output's place in its block and a
            block of the window; outside 0 … kernel-1 there is none.
        kernel: The side of the plain convolution.
        size: The block size M.
        stride: The stride of the plain convolution.

    Shape:
        rows  (M, r, blocks)
    """

    rows: NDArray[np.int64]
    kernel: int
    size: int
    stride: int

    @classmethod
    def of(cls, stem: LiftedStem, plain: nn.Conv2d) -> "Grid":
        """Return the grid of a lifted stem and of its plain convolution."""
        size, ratio = stem.block_size, stem.ratio
        kernel, stride = plain.kernel_size[0], plain.stride[0]
        padding = plain.padding if isinstance(plain.padding, tuple) else (0,)
        row, place, block = np.meshgrid(
            np.arange(size),
            np.arange(ratio),
            np.arange(stem.before + 1 + stem.after),
            indexing="ij",
        )
        top = place * stride - padding[0]
        return cls((block - stem.before) * size + row - top, kernel, size, stride)

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Shape: (pixels, r, r, blocks, blocks)."""
        inside = (self.rows >= 0) & (self.rows < self.kernel)
        both = inside[:, None, :, None, :, None] & inside[None, :, None, :, None, :]
        return both.reshape(self.size**2, *both.shape[2:])

    @property
    def classes(self) -> NDArray[np.int64]:
        """Return the place of every pixel on the grid of strides."""
        place = np.arange(self.size) % self.stride
        return (place[:, None] * self.stride + place).ravel()

    def taps_of_columns(self) -> NDArray[np.float64]:
        """Return which tap of the plain convolution every column of a lifted one holds.

        Shape:
            returns  (cells·L, 3·kernel²), 1 where it does; a cell is an output's place
                     in its block (row, column) and a block of the window
        """
        steps = np.arange(self.kernel)
        hits = (self.rows[..., None] == steps).astype(float)  # (M, r, blocks, kernel)
        colours = np.eye(CHANNELS)
        found = np.einsum("xiau,yjbv,cd->ijabxycduv", hits, hits, colours)
        cells = int(np.prod(found.shape[:4])) * self.size**2 * CHANNELS
        return np.asarray(found.reshape(cells, -1))

    def taps(self, weights: NDArray[np.float64], pixel: int) -> NDArray[np.float64]:
        """Return the plain convolution's taps for one position, 0 where it has none.

        Shape:
            weights  (O, r, r, blocks, blocks)
            returns  (O·kernel·kernel,)
        """
        rows, columns = self.rows[pixel // self.size], self.rows[pixel % self.size]
        found = np.zeros((len(weights), self.kernel, self.kernel))
        inside = (rows >= 0) & (rows < self.kernel)
        for i, a in zip(*np.nonzero(inside), strict=True):
            within = (columns >= 0) & (columns < self.kernel)
            for j, b in zip(*np.nonzero(within), strict=True):
                found[:, rows[i, a], columns[j, b]] = weights[:, i, j, a, b]
        return found.ravel()


def _likeness(
    weights: NDArray[np.float64], reached: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how similar the places of a position's weights are to a plain position's.

    It compares logarithms of energies, each cell with its mean, so that noise instead
    of zeros only blurs the result.

    Shape:
        returns  (L, L)
    """
    energy = (weights**2).mean(1).reshape(len(weights), -1)
    levels = np.log(energy + (TINY**2) * energy.max())
    expected = np.repeat(reached.reshape(len(reached), -1).astype(float), CHANNELS, 0)
    return cosines(levels - levels.mean(0), expected - expected.mean(0))


def _columns(stem: LiftedStem) -> NDArray[np.float64]:
    """Shape: (L, O, r, r, blocks, blocks)."""
    weight, ratio = stem.windows.weight.detach().double().cpu(), stem.ratio
    side = stem.before + 1 + stem.after
    blocks = cut(weight, stem.block_size)  # (O·r², blocks², L)
    parts = blocks.reshape(-1, ratio, ratio, side, side, blocks.shape[-1])
    return np.asarray(torch.movedim(parts, -1, 0).numpy())
