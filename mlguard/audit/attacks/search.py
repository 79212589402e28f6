"""What the searches for a key share: their images, and how a guess is scored."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard.audit.attacks.base import Pool, Scene
from mlguard.audit.attacks.guesses import Guess, Guesses
from mlguard.audit.outcomes import Outcome
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
