"""Search for a key by gradient descent: soften it, train it, round it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.reasons import ffx_in_a_chain
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.search.guesses import unsearchable
from mlguard.audit.attacks.search.objectives import ObjectiveName, label_free
from mlguard.audit.attacks.search.relaxed import SoftKey
from mlguard.audit.attacks.seeded import Seeded
from mlguard.audit.attacks.training.adapters import Adapters, too_large
from mlguard.audit.attacks.training.learning import BATCH, Lesson
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import Condition, keyed

SOFT_RATE = 0.1  # learning rate of a softened key
FREE = "free inverse"
SOFT = "softened key"
LABELLED: ObjectiveName = "cross-entropy"


@dataclass(frozen=True)
class Gradient(Attack):
    """Train a softened key, or free matrices in the key's place, and keep the best.

    A softened key is a doubly stochastic matrix for an order, and shares for a mask; it
    cools while it is trained, and ends as the nearest real key. Free matrices replace
    the key; they are used as trained, or as the nearest signed permutations if the
    objective prefers those.

    Adversary: has the weights and this code, and a few images of its own; no key. For
               `ffx` it also has the table, as where the password is published.
    Budget:    `steps` steps of 16 images for each variant and learning rate.
    Success:   what was found gives much of the correct key's score on other images.
    Limits:    one start for each variant. Free matrices with labels are an attack of
               their own: `retraining`. A chain of `ffx` with another method and
               `orthogonal` have no softened key. It did not converge if the
               objective was still falling at the end.
    Source:    Sinkhorn's iteration for permutations: Mena et al. 2018,
               arXiv:1802.08665. Statistics of batch normalization as a fingerprint of
               inputs: Yin et al. 2020, arXiv:1912.08795. As attacks on keys they are
               our own.

    Attributes:
        unlabelled: The number of images, if no labels are needed.
        labelled: The number of images, if labels are needed.
        steps: The steps of each training.
        rates: The learning rates of the free matrices.
    """

    name: ClassVar[str] = "gradient"
    needs_weights: ClassVar[bool] = True
    unlabelled: int = 64
    labelled: int = 16
    steps: int = 100
    rates: tuple[float, ...] = (1e-2,)

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""
        return cls(
            seed=seed,
            unlabelled=budget.unlabelled,
            labelled=budget.search_images,
            steps=budget.steps,
            rates=budget.adapter_rates,
        )

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        return too_large(scene)

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Return why the method has no softened key."""
        why = _no_soft_key(scene)
        return (f"{SOFT}: {why}",) if why else ()

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return a softened key without and with labels, and free matrices without."""
        return [(variant,) for variant in self._forms(scene)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Train each variant."""
        forms = self._forms(scene)
        for variant in group:
            what, objective = forms[variant]
            train = self._softened if what == SOFT else self._free
            yield train(scene, objective)

    def _forms(self, scene: Scene) -> dict[Variant, tuple[str, ObjectiveName]]:
        free = label_free(scene.stolen.model)
        forms = [(FREE, free)]
        if not _no_soft_key(scene):
            forms = [(SOFT, free), (SOFT, LABELLED), *forms]
        return {
            Variant(f"{what}, {objective}", *self._images(scene, objective)): (
                what,
                objective,
            )
            for what, objective in forms
        }

    def _images(self, scene: Scene, objective: ObjectiveName) -> tuple[int, int]:
        """Return how many images an objective gets, and how many with labels."""
        labelled = objective == LABELLED
        images = min(len(scene.pool), self.labelled if labelled else self.unlabelled)
        return images, images if labelled else 0

    def _softened(self, scene: Scene, objective: ObjectiveName) -> Outcome:
        lesson, subject = self._lesson(scene, objective), scene.stolen.copy()
        with Seeded(self.seed):
            key = SoftKey(scene).to(subject.device)
        settled = lesson.teach(
            subject,
            key.parameters(),
            key.condition,
            SOFT_RATE,
            objective=objective,
            watch=key.cool,
        )
        found = keyed(key.transforms(), subject.device)
        work = self.steps * BATCH
        return self._outcome(scene, SOFT, objective, found, settled, work)

    def _free(self, scene: Scene, objective: ObjectiveName) -> Outcome:
        lesson, subject = self._lesson(scene, objective), scene.stolen.copy()
        tried: list[tuple[float, bool, Condition]] = []
        for rate in self.rates:
            adapters = Adapters.of(scene)
            settled = lesson.teach(
                subject,
                adapters.parameters(),
                adapters.condition,
                rate,
                objective=objective,
            )
            for one in (adapters.condition, adapters.rounded().condition):
                looks = lesson.look(subject, one, objective)
                tried.append((looks, settled, one))
        _, settled, best = min(tried, key=lambda one: one[0])
        work = len(self.rates) * (self.steps + 2 * lesson.batches) * BATCH
        return self._outcome(scene, FREE, objective, best, settled, work)

    def _lesson(self, scene: Scene, objective: ObjectiveName) -> Lesson:
        number, _ = self._images(scene, objective)
        pool = subset(scene.pool, number)
        return Lesson(pool, self.steps, self.seed, scene.tick)

    def _outcome(
        self,
        scene: Scene,
        what: str,
        objective: ObjectiveName,
        found: Condition,
        settled: bool,
        queries: int,
    ) -> Outcome:
        images, labels = self._images(scene, objective)
        return Outcome(
            attack=self.name,
            variant=f"{what}, {objective}",
            rung="T4" if labels else "T3",
            images=images,
            labels=labels,
            queries=queries,
            counts=scene.referee(scene.stolen.model, found),
            converged=settled,
            notes=_notes(scene) if what == SOFT else (),
        )


def _no_soft_key(scene: Scene) -> str:
    """Return why a key has no softened form; empty if it has one."""
    if why := ffx_in_a_chain(scene.spec):
        return why
    return unsearchable(scene.spec) if scene.spec.image_methods else ""


def _notes(scene: Scene) -> tuple[str, ...]:
    return ("table-assumed-known",) if scene.leaks.table() is not None else ()
