"""What the searches for a key share: their images, and how a guess is scored."""

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

AT_ONCE = 256  # guesses handed over together


class Space(Protocol):
    """What guesses are guesses of."""

    @property
    def table(self) -> NDArray[np.int32] | None:
        """The table of `ffx`, assumed known; None without `ffx`."""

    def transforms(self, guess: Guess) -> TransformSet:
        """What a guess stands for. Key material if it is right."""


class Judged(Protocol):
    """Scores guesses; lower is better. Shape: (K, rows, L) to (objectives, K)."""

    queries: int  # predictions of one image so far

    @property
    def objectives(self) -> Sequence[str]:
        """What it scores by, in the order of the scores."""

    def __call__(self, guesses: Guesses) -> Tensor:
        """Score guesses by every objective."""


def best_of(
    judge: Callable[[Guesses], Tensor], guesses: Iterable[Guess], *, objectives: int
) -> list[Guess]:
    """Judge every guess once, and keep the best by each objective.

    Args:
        judge: Scores guesses; lower is better. Shape: (K, rows, L) to (objectives, K).
        guesses: At least one.
        objectives: How many scores there are of each.

    Returns:
        For each objective the first of the best guesses; the first of all where no
        score is a number, as of broken weights.
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
        scene: Whose model it is.
        space: What the guesses are guesses of.
        judge: Scores them by all objectives, and counts the predictions.
        guesses: At least one.
        attack: Whose outcomes these are.
        group: Those that are to be found, each named for its objective.
    """
    best = best_of(judge, guesses, objectives=len(judge.objectives))
    places = list(judge.objectives)
    for variant in group:
        guess = best[places.index(variant.name)]
        yield found(scene, space, guess, attack, variant, queries=judge.queries)


def subset(pool: Pool, number: int) -> Pool:
    """The first images of a pool; all of them if there are fewer."""
    return Pool(pool.images[:number], pool.masks[:number], pool.ignore_index)


def variants_of(scene: Scene, objectives: Sequence[str], images: int) -> Group:
    """What searches by objectives can find, with so many images if there are."""
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
    """Score a guess by what it gives, not by how many of its entries are right."""
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
