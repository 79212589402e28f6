"""Search for a key step by step: swap two entries, and keep improvements."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from mlguard.audit.attacks.base import Attack, Group, Scene
from mlguard.audit.attacks.search.best import found, subset, variants_of
from mlguard.audit.attacks.search.guesses import (
    Guess,
    GuessSpace,
    Step,
    stepped,
    unsearchable,
)
from mlguard.audit.attacks.search.objectives import Judge, objectives_of
from mlguard.audit.findings import Budget, Outcome
from mlguard.data.draws import Draws

AT_ONCE = 32  # steps tried before one is taken
MAX_JOINED = 8  # better steps that are tried together


@dataclass(frozen=True)
class HillClimbing(Attack):
    """Start from random keys, and swap two entries as long as that improves the guess.

    Adversary: has the weights and this code, and a few images of its own; no key. For
               `ffx` it also has the table, as where the password is published.
    Budget:    `guesses` transforms, each on `images` images, for each objective; as
               many starts as fit, at most `starts`.
    Success:   the best guess gives much of the correct key's score on other images,
               however many of its entries are right.
    Limits:    a local search: what it does not find may still be there. It did not
               converge if the budget ended before no step looked better.
    Source:    the heuristic key search of AprilPyone and Kiya 2021, arXiv:2109.00224;
               the smoother objectives and the joined steps are our own.

    Attributes:
        images: The number of the adversary's images.
        guesses: How many transforms it judges, for each objective.
        starts: The number of random keys to start from.
    """

    name: ClassVar[str] = "hill-climbing"
    reads_statistics: ClassVar[bool] = True
    images: int = 16
    guesses: int = 2000
    starts: int = 4

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""
        return cls(
            seed=seed,
            images=budget.search_images,
            guesses=budget.guesses,
            starts=budget.starts,
        )

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        return unsearchable(scene.spec)

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return one variant without labels and one with them."""
        both = variants_of(scene, objectives_of(scene.stolen.model), self.images)
        return [(one,) for one in both]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Climb by each objective."""
        space = GuessSpace.of(scene.spec, scene.leaks.table())
        pool = subset(scene.pool, self.images)
        for number, objective in enumerate(objectives_of(scene.stolen.model)):
            variant = next((one for one in group if one.name == objective), None)
            if variant is None:
                continue
            judge = Judge(scene, space, pool, (objective,))
            climber = _Climber(space, judge, self.guesses)
            tops = []
            for start in range(self.starts):
                tops.append(climber.climb(Draws(self.seed, number, start)))
                if climber.left <= 0:
                    break
            _, converged, guess = min(tops, key=lambda top: top[0])
            yield found(
                scene,
                space,
                guess,
                self.name,
                variant,
                queries=judge.queries,
                converged=converged,
            )


class _Climber:
    """A climber that stops when no step improves, or no guess is left."""

    def __init__(self, space: GuessSpace, judge: Judge, guesses: int) -> None:
        self._space, self._judge = space, judge
        self.left = guesses

    def climb(self, draws: Draws) -> tuple[float, bool, Guess]:
        """Climb once; return the objective, whether it reached a top, and the guess."""
        guess = self._space.draw(draws)
        height = self._heights([guess])[0]
        while self.left > 0:
            before = height
            for steps in self._batches(guess, draws):
                guess, height = self._best(guess, height, steps)
                if self.left <= 0:
                    return height, False, guess
            if not height < before:
                return height, self._space.lists_every_step(), guess
        return height, False, guess

    def _batches(self, guess: Guess, draws: Draws) -> Iterator[list[Step]]:
        steps = self._space.steps(guess, draws)
        for start in range(0, len(steps), AT_ONCE):
            yield steps[start : start + AT_ONCE]

    def _best(
        self, guess: Guess, height: float, steps: list[Step]
    ) -> tuple[Guess, float]:
        """Take the best step, or several improving ones if they improve together."""
        steps = [step for step in steps if _changes(guess, step)]
        heights = self._heights([stepped(guess, [step]) for step in steps])
        order = [int(index) for index in np.argsort(heights, kind="stable")]
        better = _apart([steps[index] for index in order if heights[index] < height])
        if not better:
            return guess, height
        joined = [
            stepped(guess, better[:number]) for number in range(2, len(better) + 1)
        ]
        guesses = [stepped(guess, better[:1]), *joined]
        all_heights = [heights[order[0]], *self._heights(joined)]
        best = int(np.argmin(all_heights))
        return guesses[best], all_heights[best]

    def _heights(self, guesses: list[Guess]) -> list[float]:
        if not guesses:
            return []
        self.left -= len(guesses)
        return [float(value) for value in self._judge(np.stack(guesses))[0]]


def _changes(guess: Guess, step: Step) -> bool:
    row, i, j = step
    return bool(guess[row, i] != guess[row, j])


def _apart(steps: list[Step]) -> list[Step]:
    """Return the first steps that touch no position twice, to be joined."""
    taken: set[tuple[int, int]] = set()
    chosen = []
    for row, i, j in steps:
        if not taken & {(row, i), (row, j)}:
            taken |= {(row, i), (row, j)}
            chosen.append((row, i, j))
    return chosen[:MAX_JOINED]
