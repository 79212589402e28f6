"""Guesses of a key's transform, many at once, without a key.

A guess is a row of numbers for each transform of the chain: an order, or a mask of
zeros and ones. One step from a guess swaps two entries of one row; that moves an entry
of an order, or a set bit of a mask, so every step leads to another possible transform.
Guesses are key material once they are right: they stay in memory.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard import recipe
from mlguard.audit.attacks.reasons import NO_IMAGE_METHOD
from mlguard.data.draws import Draws
from mlguard.models.conditions import cut, join
from mlguard.rules import BYTE_MAX
from mlguard.transforms import (
    Compose,
    FormatPreserving,
    NegativePositive,
    PixelShuffle,
    Transform,
    TransformSet,
)
from mlguard.transforms.blocks import block_length

SEARCHED = ("shf", "np", "ffx")  # methods whose guesses can be changed step by step
MAX_STEPS_LISTED = 1 << 20  # above this, steps are drawn and not enumerated

Guess = NDArray[np.int64]  # (transforms, L)
Guesses = NDArray[np.int64]  # (K, transforms, L)
Step = tuple[int, int, int]  # transform, and the two positions to swap


def unsearchable(spec: recipe.Transform) -> str:
    """Return why a transform cannot be guessed step by step; empty if it can."""
    if not spec.image_methods:
        return NO_IMAGE_METHOD
    strange = [method for method in spec.image_methods if method not in SEARCHED]
    if strange:
        return f"guesses of {', '.join(strange)} cannot be made step by step"
    return ""


@dataclass(frozen=True)
class GuessSpace:
    """The space of all transforms that a key could have chosen.

    Attributes:
        methods: The chain, in its order.
        block_size: M, in pixels.
        table: The table of `ffx`, assumed known; None without `ffx`.
    """

    methods: tuple[str, ...]
    block_size: int
    table: NDArray[np.int32] | None = None

    @classmethod
    def of(
        cls, spec: recipe.Transform, table: NDArray[np.int32] | None
    ) -> "GuessSpace":
        """Return the space of a recipe's [transform] section."""
        return cls(spec.image_methods, spec.block_size, table)

    @property
    def length(self) -> int:
        """L = 3·M², the entries of a row."""
        return block_length(self.block_size)

    @property
    def size(self) -> int:
        """The number of guesses."""
        orders = math.factorial(self.length) if "shf" in self.methods else 1
        masks = math.comb(self.length, self.length // 2)
        chosen = sum(method != "shf" for method in self.methods)
        return int(orders * masks**chosen)

    def every(self) -> Iterator[Guess]:
        """Yield all guesses, in a fixed order."""
        rows = [self._rows(method) for method in self.methods]
        for chosen in itertools.product(*rows):
            yield np.stack(chosen)

    def draw(self, draws: Draws) -> Guess:
        """Return a random guess."""
        rows = []
        for method in self.methods:
            order = _shuffled(self.length, draws)
            half = (order < self.length // 2).astype(np.int64)
            rows.append(order if method == "shf" else half)
        return np.stack(rows)

    def steps(self, guess: Guess, draws: Draws) -> list[Step]:
        """Return the steps that change a guess, shuffled; a share if they are many."""
        pairs = math.comb(self.length, 2)
        listed: list[Step] = []
        for row in range(len(self.methods)):
            if pairs <= MAX_STEPS_LISTED:
                swaps = list(itertools.combinations(range(self.length), 2))
            else:
                last = self.length - 1
                swaps = [
                    (draws.between(0, last), draws.between(0, last))
                    for _ in range(MAX_STEPS_LISTED >> 4)
                ]
            listed += [(row, i, j) for i, j in swaps if guess[row, i] != guess[row, j]]
        return [listed[index] for index in _shuffled(len(listed), draws)]

    def lists_every_step(self) -> bool:
        """Whether `steps` returns all of them."""
        return math.comb(self.length, 2) <= MAX_STEPS_LISTED

    def signed(self, order: NDArray[np.int64], inverted: NDArray[np.bool_]) -> Guess:
        """Return the guess that shows values of other positions, some of them inverted.

        It works for `shf`, `np`, and both in either order.

        Args:
            order: Position i of a transformed block shows position order[i].
            inverted: Whether position i shows it inverted.
        """
        rows: list[NDArray[np.int64]] = []
        negative = inverted.astype(np.int64)
        for place, method in enumerate(self.methods):
            if method == "shf":
                rows.append(order)
            else:
                first = "shf" in self.methods[place:]  # then it is of plain positions
                rows.append(negative[np.argsort(order)] if first else negative)
        return np.stack(rows)

    def transform(self, guess: Guess) -> Transform:
        """Return the transform of a guess: key material if it is right."""
        size = self.block_size
        chain: list[Transform] = []
        for method, row in zip(self.methods, guess, strict=True):
            if method == "shf":
                chain.append(PixelShuffle(size, row))
            elif method == "np":
                chain.append(NegativePositive(size, row.astype(np.bool_)))
            else:
                chain.append(
                    FormatPreserving(size, row.astype(np.bool_), self._known_table())
                )
        return chain[0] if len(chain) == 1 else Compose(chain)

    def transforms(self, guess: Guess) -> TransformSet:
        """Return the same as the set of all transforms of a key."""
        return TransformSet(self.transform(guess))

    def apply(self, guesses: Guesses, images: Tensor) -> Tensor:
        """Transform the same images under every guess, in one go.

        Shape:
            images   (n, 3, H, W) uint8
            returns  (K, n, 3, H, W) float32 in [0, 1]
        """
        blocks = cut(images, self.block_size).to(torch.int32)
        values = blocks.expand(len(guesses), *blocks.shape)  # (K, n, blocks, L)
        scale = BYTE_MAX
        chosen = torch.from_numpy(guesses).to(images.device)
        for row, method in enumerate(self.methods):
            rows = chosen[:, row, None, None]  # (K, 1, 1, L)
            if method == "shf":
                values = values.gather(-1, rows.expand(values.shape))
            elif method == "np":
                values = torch.where(rows > 0, BYTE_MAX - values, values)
            else:
                known = self._known_table()
                scale = int(known.max())
                table = torch.from_numpy(known.copy()).to(images.device)
                values = torch.where(rows > 0, table[values.long()], values)
        joined = join(values.flatten(0, 1), self.block_size, images.shape[-2:])
        return joined.view(len(guesses), *images.shape).float() / scale

    def _rows(self, method: str) -> Iterator[Guess]:
        positions = range(self.length)
        if method == "shf":
            yield from map(np.array, itertools.permutations(positions))
            return
        for set_ones in itertools.combinations(positions, self.length // 2):
            row = np.zeros(self.length, dtype=np.int64)
            row[list(set_ones)] = 1
            yield row

    def _known_table(self) -> NDArray[np.int32]:
        if self.table is None:
            raise ValueError("a search over ffx masks needs the table")
        return self.table


def stepped(guess: Guess, steps: list[Step]) -> Guess:
    """Return the guess after some steps, one after the other."""
    changed = guess.copy()
    for row, i, j in steps:
        changed[row, [i, j]] = changed[row, [j, i]]
    return changed


def _shuffled(length: int, draws: Draws) -> NDArray[np.int64]:
    return np.argsort(draws.words(length), kind="stable")
