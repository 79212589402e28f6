"""Common parts of the searches for a key: their images, and the scores of guesses."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard.audit.attacks.base import Group, Pool, Scene, Variant
from mlguard.audit.attacks.search.guesses import Guess, Guesses
from mlguard.audit.findings import Outcome
from mlguard.models import keyed
from mlguard.transforms import TransformSet

AT_ONCE = 256  # guesses judged together


class Space(Protocol):
    """A space of guesses."""

    @property
    def table(self) -> NDArray[np.int32] | None:
        """The table of `ffx`, assumed known; None without `ffx`."""

    def transforms(self, guess: Guess) -> TransformSet:
        """Return the transforms of a guess: key material if it is right."""


class Judged(Protocol):
    """A judge of guesses; lower is better. Shape: (K, rows, L) to (objectives, K)."""

    queries: int  # predictions of one image so far

    @property
    def objectives(self) -> Sequence[str]:
        """The objectives, in the order of the scores."""

    def __call__(self, guesses: Guesses) -> Tensor:
        """Score guesses by every objective."""


def best_of(
    judge: Callable[[Guesses], Tensor], guesses: Iterable[Guess], *, objectives: int
) -> list[Guess]:
    """Judge every guess once, and keep the best by each objective.

    Args:
        judge: A judge of guesses; lower is better. Shape: (K, rows, L) to (objectives,
            K).
        guesses: At least one.
        objectives: How many scores there are of each.

    Returns:
        For each objective, the first of the best guesses; the first of all if no score
        is a number, as with broken weights.
    """
    waiting = iter(guesses)
    first = next(waiting)
    best: list[tuple[float, Guess]] = [(math.inf, first)] * objectives
    waiting = itertools.chain([first], waiting)
    while batch := list(itertools.islice(waiting, AT_ONCE)):
        scores = judge(np.stack(batch))
        for row, (known, _) in enumerate(best):
            index = int(torch.argmin(scores[row]))
            if float(scores[row, index]) < known:
                best[row] = (float(scores[row, index]), batch[index])
    return [guess for _, guess in best]


def best_outcomes(
    scene: Scene,
    space: Space,
    judge: Judged,
    guesses: Iterable[Guess],
    attack: str,
    group: Group,
) -> Iterator[Outcome]:
    """Judge every guess once, and score the best by each objective.

    Args:
        scene: The scene with the model.
        space: The space of the guesses.
        judge: A judge that scores them by all objectives, and counts predictions.
        guesses: At least one.
        attack: The name of the attack.
        group: The variants to find, each named for its objective.
    """
    best = best_of(judge, guesses, objectives=len(judge.objectives))
    places = list(judge.objectives)
    for variant in group:
        guess = best[places.index(variant.name)]
        yield found(scene, space, guess, attack, variant, queries=judge.queries)


def subset(pool: Pool, number: int) -> Pool:
    """Return the first images of a pool; all of them if there are fewer."""
    return Pool(pool.images[:number], pool.masks[:number], pool.ignore_index)


def variants_of(scene: Scene, objectives: Sequence[str], images: int) -> Group:
    """Return the variants of a search by objectives, with at most so many images."""
    number = min(images, len(scene.pool))
    return tuple(
        Variant(one, number, number if one == "cross-entropy" else 0)
        for one in objectives
    )


def found(
    scene: Scene,
    space: Space,
    guess: Guess,
    attack: str,
    variant: Variant,
    *,
    queries: int,
    converged: bool = True,
) -> Outcome:
    """Score a guess by its predictions, not by how many of its entries are right."""
    condition = keyed(space.transforms(guess), scene.stolen.device)
    return Outcome(
        attack=attack,
        variant=variant.name,
        rung="T4" if variant.labels else "T3",
        images=variant.images,
        labels=variant.labels,
        queries=queries,
        counts=scene.referee(scene.stolen.model, condition),
        converged=converged,
        notes=("table-assumed-known",) if space.table is not None else (),
    )
