"""Recover a key from transformed images whose originals were never seen."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import quadratic_assignment

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.reasons import ffx_in_a_chain
from mlguard.audit.attacks.search.assignment import Order
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.search.guesses import Guess, GuessSpace, unsearchable
from mlguard.audit.attacks.search.objectives import Judge, label_free
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import keyed
from mlguard.rules import BYTE_MAX
from mlguard.transforms import TransformSet
from mlguard.transforms.blocks import CHANNELS, to_blocks

MAX_LENGTH = 192  # positions of a block (M = 8); above this, matching takes too long
STARTS = 6  # of a matching of two covariances
POLISHED = 48  # positions up to which a matching is improved pair by pair
EPSILON = 1e-6

Values = NDArray[np.float64]  # (blocks, L)


@dataclass(frozen=True)
class TransformedImages(Attack):
    """Compare the statistics of natural images with those of transformed ones.

    Neighbouring values of photographs are alike, so a position that `np` inverts is
    unlike the others: the signs of the leading eigenvector of their correlations are
    the mask, up to all of it. The covariances of positions, matched with those of plain
    images, give the order of `shf`, up to mirror images, rotations and colours. Values
    beyond 255 give the mask of `ffx`. The remaining choices are tried.

    Adversary: has the weights, this code, some transformed images, and as many plain
               ones that show other things; no labels. For `ffx` it also has the table,
               as where the password is published.
    Budget:    `images` of each; at most 576 keys, each on `images` images.
    Success:   the key found gives much of the correct key's score on other images.
    Limits:    blocks of at most 8×8 pixels; a local matching for `shf`. Not for
               `orthogonal`, nor for `ffx` with another method.
    Source:    the layout of pixels from their correlations: Le Roux et al. 2007, NIPS;
               matching: Vogelstein et al. 2015, doi:10.1371/journal.pone.0121002.
               Attacks on transformed images alone: Chuman and Kiya 2022,
               arXiv:2211.02369. The combination is our own.

    Attributes:
        images: The number of transformed images, and of plain ones.
    """

    name: ClassVar[str] = "transformed-images"
    reads_statistics: ClassVar[bool] = True
    images: int = 16

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack with as many images as any search."""
        return cls(seed=seed, images=budget.search_images)

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if why := unsearchable(scene.spec):
            return why
        if why := ffx_in_a_chain(scene.spec):
            return why
        length = GuessSpace.of(scene.spec, None).length
        if "shf" in scene.spec.image_methods and length > MAX_LENGTH:
            return f"matching {length} positions takes too long"
        if len(scene.pool) < 2:
            return "it needs images for both sides of the comparison"
        return ""

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return the one variant."""
        number = min(self.images, len(scene.pool) // 2)
        return [(Variant("without originals", number),)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Find the remaining choices, try them, and keep the best."""
        number = min(self.images, len(scene.pool) // 2)
        space = GuessSpace.of(scene.spec, scene.leaks.table())
        own = subset(scene.pool, number)
        others = scene.pool.images[number : 2 * number].numpy()
        seen = np.stack([scene.leaks.pair(image) for image in others])
        known = values_of(own.images.numpy() / BYTE_MAX, space.block_size)
        guesses = candidates(space, known, values_of(seen, space.block_size), self.seed)
        judge = Judge(scene, space, own, (label_free(scene.stolen.model),))
        best = guesses[int(torch.argmin(judge(np.stack(guesses))[0]))]
        condition = keyed(TransformSet(space.transform(best)), scene.stolen.device)
        yield Outcome(
            attack=self.name,
            variant="without originals",
            rung="T6",
            images=number,
            labels=0,
            queries=judge.queries,
            counts=scene.referee(scene.stolen.model, condition),
            converged=True,
            notes=("table-assumed-known",) if space.table is not None else (),
        )


def candidates(
    space: GuessSpace, plain: Values, seen: Values, seed: int
) -> list[Guess]:
    """Return the keys that transformed images leave possible.

    Args:
        space: The space of the transforms.
        plain: Blocks of plain images, in [0, 1].
        seen: Blocks of other images, transformed.
        seed: The seed of the starts of a matching.
    """
    if space.table is not None:
        limit = BYTE_MAX / float(space.table.max()) + EPSILON
        return [(seen.max(0) > limit).astype(np.int64)[None]]
    negative = np.zeros(space.length, dtype=np.bool_)
    flips = [negative]
    if "np" in space.methods:
        negative = _leading(seen) < 0
        flips = [negative, ~negative]
    orders = [np.arange(space.length)]
    if "shf" in space.methods:
        upright = np.where(negative, 1 - seen, seen)
        found = _matched(np.cov(plain.T), np.cov(upright.T), seed)
        orders = [order for one in found for order in _symmetric(one, space.block_size)]
    return [space.signed(order, flip) for order in orders for flip in flips]


def _leading(values: Values) -> NDArray[np.float64]:
    """Return the leading eigenvector of the correlations of positions. Shape: (L,)."""
    spread = values.std(0)
    centred = (values - values.mean(0)) / np.where(spread > 0, spread, 1.0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.asarray(vectors[:, -1])


def _matched(plain: Values, seen: Values, seed: int) -> list[Order]:
    """Return orders under which two covariances are alike, one for each start."""
    one, other = (part / np.abs(part).mean() for part in (plain, seen))
    orders = []
    for start in range(STARTS):
        first = "barycenter" if start == 0 else "randomized"
        draws = np.random.default_rng([seed, start])
        options = {"maximize": True, "rng": draws, "P0": first}
        places = quadratic_assignment(one, other, method="faq", options=options).col_ind
        if len(places) <= POLISHED:
            pairs = np.stack([np.arange(len(places)), places], axis=1)
            options = {"maximize": True, "rng": draws, "partial_guess": pairs}
            polished = quadratic_assignment(one, other, method="2opt", options=options)
            places = polished.col_ind
        orders.append(np.argsort(places))  # position places[i] shows plain position i
    unique = {order.tobytes(): order for order in orders}
    return list(unique.values())


def _symmetric(order: Order, size: int) -> Iterator[Order]:
    """Return the order with blocks mirrored and rotated, and with colours exchanged."""
    grid = np.arange(size**2).reshape(size, size)
    for turns, mirrored in itertools.product(range(4), (False, True)):
        turned = np.rot90(grid.T if mirrored else grid, turns).ravel()
        for colours in itertools.permutations(range(CHANNELS)):
            pixel, colour = order // CHANNELS, order % CHANNELS
            yield turned[pixel] * CHANNELS + np.asarray(colours)[colour]


def values_of(
    images: NDArray[np.float64] | NDArray[np.float32], block_size: int
) -> Values:
    """Return all blocks of images. Shape: (N, 3, H, W) to (N·H/M·W/M, L)."""
    blocks = to_blocks(images.astype(np.float64), block_size)
    return np.asarray(blocks.reshape(-1, blocks.shape[-1]))
