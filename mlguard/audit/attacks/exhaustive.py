"""Try every key there is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from mlguard.audit.attacks.base import Attack, Scene
from mlguard.audit.attacks.search.best import best_outcomes, subset, wanted
from mlguard.audit.attacks.search.guesses import GuessSpace, unsearchable
from mlguard.audit.attacks.search.objectives import Judge, ObjectiveName, label_free
from mlguard.audit.findings import Budget, Outcome


@dataclass(frozen=True)
class Exhaustive(Attack):
    """Score every transform the key could have chosen, and keep the best.

    Adversary: has the weights and this code, and a few images of its own; no key. For
               `ffx` it also has the table, as where the password is published.
    Budget:    at most `guesses` transforms, each on `images` images.
    Success:   the best guess gives the correct key's score on other images.
    Limits:    says nothing where the key space is larger than `guesses`.
    Source:    the brute-force attack named by AprilPyone and Kiya 2021,
               arXiv:2109.00224; the label-free objective is our own.

    Attributes:
        images: The adversary's images.
        guesses: The largest key space it will go through.
    """

    name: ClassVar[str] = "exhaustive"
    reads_statistics: ClassVar[bool] = True
    images: int = 16
    guesses: int = 2000

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """The attack as strong as a budget allows."""
        return cls(seed=seed, images=budget.search_images, guesses=budget.guesses)

    def impossible(self, scene: Scene) -> str:
        """Why it cannot run on this model, in words; empty if it can."""
        if why := unsearchable(scene.spec):
            return why
        size = GuessSpace.of(scene.spec, None).size
        if size <= self.guesses:
            return ""
        return f"the key space has more than the {self.guesses:,} keys of this budget"

    def run(self, scene: Scene) -> Iterator[Outcome]:
        """Judge every guess once, with and without labels."""
        space = GuessSpace.of(scene.spec, scene.leaks.table())
        free = label_free(scene.stolen.model)
        pool = subset(scene.pool, self.images)
        both: tuple[ObjectiveName, ...] = (free, "cross-entropy")
        mine = [one for one in both if wanted(scene, one, len(pool))]
        if not mine:
            return
        yield from best_outcomes(
            scene,
            space,
            Judge(scene, space, pool, both),
            space.every(),
            attack=self.name,
            objectives=both,
            mine=mine,
            images=len(pool),
        )
