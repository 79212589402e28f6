"""Try every possible key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from mlguard.audit.attacks.base import Attack, Group, Scene
from mlguard.audit.attacks.search.best import best_outcomes, subset, variants_of
from mlguard.audit.attacks.search.guesses import GuessSpace, unsearchable
from mlguard.audit.attacks.search.objectives import Judge, objectives_of
from mlguard.audit.findings import Budget, Outcome


@dataclass(frozen=True)
class Exhaustive(Attack):
    """Score every transform that the key could have chosen, and keep the best.

    Adversary: has the weights and this code, and a few images of its own; no key. For
               `ffx` it also has the table, as where the password is published.
    Budget:    at most `guesses` transforms, each on `images` images.
    Success:   the best guess gives the correct key's score on other images.
    Limits:    says nothing where the key space is larger than `guesses`.
    Source:    the brute-force attack named by AprilPyone and Kiya 2021,
               arXiv:2109.00224; the label-free objective is our own.

    Attributes:
        images: The adversary's images.
        guesses: The largest key space that it will go through.
    """

    name: ClassVar[str] = "exhaustive"
    reads_statistics: ClassVar[bool] = True
    images: int = 16
    guesses: int = 2000

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""
        return cls(seed=seed, images=budget.search_images, guesses=budget.guesses)

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if why := unsearchable(scene.spec):
            return why
        size = GuessSpace.of(scene.spec, None).size
        if size <= self.guesses:
            return ""
        return f"the key space has more keys than the {self.guesses:,} of this budget"

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return one variant with labels and one without, from the same guesses."""
        return [variants_of(scene, objectives_of(scene.stolen.model), self.images)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Judge every guess once, and score the best."""
        space = GuessSpace.of(scene.spec, scene.leaks.table())
        pool = subset(scene.pool, self.images)
        judge = Judge(scene, space, pool, objectives_of(scene.stolen.model))
        yield from best_outcomes(scene, space, judge, space.every(), self.name, group)
