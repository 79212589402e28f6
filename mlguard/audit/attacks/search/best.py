"""What the searches for a key share: their images, and how a guess is scored."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard.audit.attacks.base import Pool, Scene
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
    *,
    attack: str,
    objectives: Sequence[str],
    mine: Collection[str],
    images: int,
) -> Iterator[Outcome]:
    """Judge every guess once, and score the best by each objective.

    Args:
        scene: Whose model it is.
        space: What the guesses are guesses of.
        judge: Scores them by all objectives, and counts the predictions.
        guesses: At least one.
        attack: Whose outcomes these are.
        objectives: In the judge's order.
        mine: Those whose outcome is to be found here.
        images: How many the judge looks at.
    """
    best = best_of(judge, guesses, objectives=len(objectives))
    for objective, guess in zip(objectives, best, strict=True):
        if objective in mine:
            yield found(
                scene,
                space,
                guess,
                attack=attack,
                objective=objective,
                images=images,
                queries=judge.queries,
                converged=True,
            )


def subset(pool: Pool, number: int) -> Pool:
    """The first images of a pool; all of them if there are fewer."""
    return Pool(pool.images[:number], pool.masks[:number], pool.ignore_index)


def wanted(scene: Scene, objective: str, images: int) -> bool:
    """Whether what a search by an objective finds is not known yet."""
    return scene.wants(objective, images, _labels(objective, images))


def found(
    scene: Scene,
    space: Space,
    guess: Guess,
    *,
    attack: str,
    objective: str,
    images: int,
    queries: int,
    converged: bool,
) -> Outcome:
    """Score a guess by what it gives, not by how many of its entries are right."""
    condition = keyed(space.transforms(guess), scene.stolen.device)
    labels = _labels(objective, images)
    return Outcome(
        attack=attack,
        variant=objective,
        rung="T4" if labels else "T3",
        images=images,
        labels=labels,
        queries=queries,
        counts=scene.referee(scene.stolen.model, condition),
        converged=converged,
        notes=("table-assumed-known",) if space.table is not None else (),
    )


def _labels(objective: str, images: int) -> int:
    return images if objective == "cross-entropy" else 0
