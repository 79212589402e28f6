"""Re-train the stolen model for a long time, from the best possible start."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.controls import has_ancestor
from mlguard.audit.attacks.public_ancestor import NO_FILE, public_places
from mlguard.audit.attacks.training.adapters import FeatureAdapter
from mlguard.audit.attacks.training.patience import Patience, Student
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import NO_KEY
from mlguard.models.conditions import Change

STOLEN, MATCHED = "everything", "matched columns, everything"
HURRIED = "this budget has no time for it: `standard` and `thorough` have"


@dataclass(frozen=True)
class PatientRetraining(Attack):
    """Train every weight of the stolen model for a long time, with good practice.

    From the stolen weights as they are; and, with public weights, from what
    `public-ancestor` matched, with a matrix to learn wherever it matched nothing.

    Adversary: has the weights and this code, n labelled images and others without
               labels; for the second form the public weights too.
    Budget:    a tenth of `steps` for each learning rate, and then `steps` of 16 images.
    Success:   much better than the control, which trains as long and in the same way
               without the stolen weights.
    Limits:    one schedule, one kind of views; labels are held out from four on only.
    Source:    the fine-tuning attack of AprilPyone and Kiya 2021, arXiv:2109.00224; how
               much patience changes it, Chen et al. 2023, arXiv:2303.11595.

    Attributes:
        labelled: With how many labelled images; numbers above the pool are left out.
        steps: Of each training; 0 in a budget without time for it.
        rates: Learning rates that are tried.
    """

    name: ClassVar[str] = "patient-retraining"
    needs_weights: ClassVar[bool] = True
    labelled: tuple[int, ...] = ()
    steps: int = 0
    rates: tuple[float, ...] = ()

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""
        return cls(
            seed=seed,
            labelled=budget.patient_labelled,
            steps=budget.patient_steps,
            rates=budget.patient_rates,
        )

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if not self.steps:
            return HURRIED
        if min(self.labelled) > len(scene.pool):
            return f"it needs {min(self.labelled)} labelled images"
        return ""

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Return numbers of labels above the pool, and impossible starts."""
        own = len(scene.pool)
        parts = [
            f"with {number} labelled images: the adversary has {own}"
            for number in self.labelled
            if number > own
        ]
        if why := _unmatched(scene):
            parts.append(f"{MATCHED}: {why}")
        return tuple(parts)

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return every start, with increasing numbers of labelled images."""
        names = [STOLEN] if _unmatched(scene) else [STOLEN, MATCHED]
        return [
            (Variant(name, number, number),)
            for number in self.labelled
            if number <= len(scene.pool)
            for name in names
        ]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Train each variant."""
        for variant in group:
            lesson = self.lesson(scene, variant.labels)
            learned, settled = lesson.teach(start_of(scene, variant.name))
            yield Outcome(
                attack=self.name,
                variant=variant.name,
                rung="T5" if variant.name == MATCHED else "T4",
                images=variant.images,
                labels=variant.labels,
                queries=lesson.queries,
                counts=scene.referee(learned.subject.model, learned.condition),
                converged=settled,
            )

    def lesson(self, scene: Scene, labels: int) -> Patience:
        """Return the training with a number of labels, the same for its control."""
        return Patience(
            scene.pool, labels, self.steps, self.rates, self.seed, scene.tick
        )


def start_of(scene: Scene, name: str) -> Callable[[], Student]:
    """Return a maker of students: the stolen model as it is, or after matching."""

    def stolen() -> Student:
        subject = scene.stolen.copy(learns=True)
        return Student(subject, NO_KEY, list(subject.model.parameters()))

    def matched() -> Student:
        subject, places = scene.stolen.copy(learns=True), scene.once(public_places)
        found = places.condition(scene)
        new = {
            layer: FeatureAdapter(channels).to(subject.device)
            for layer, channels in places.unknown(scene).items()
        }
        features: dict[str, Change] = {**found.features, **new}
        condition = replace(found, features=features, transforms=None)
        learned = [*subject.model.parameters()]
        learned += [one for adapter in new.values() for one in adapter.parameters()]
        return Student(subject, condition, learned)

    return matched if name == MATCHED else stolen


def _unmatched(scene: Scene) -> str:
    """Return why there is no start from matched columns; empty if there is."""
    if not has_ancestor(scene.public):
        return NO_FILE
    places = scene.once(public_places)
    return "" if places.matched else "; ".join(places.unmatched)
