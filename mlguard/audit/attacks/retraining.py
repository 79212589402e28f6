"""Train the stolen model on a few labelled images until it needs no key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.training.adapters import Adapters, too_large
from mlguard.audit.attacks.training.learning import Lesson, Trained, best_of_trained
from mlguard.audit.findings import Budget, Outcome, share_of
from mlguard.models import NO_KEY, last_layers, norms_after, readers
from mlguard.models.binding import keyed_norms

EVERYTHING, NORMS = "everything", "scale and bias"


@dataclass(frozen=True)
class Retraining(Attack):
    """Fine-tune everything or a part, or learn a matrix wherever the key acts.

    The parts are the stem (the first layer and its norm), the head (the last layer),
    the readers (the layers that mix a feature map that the key permutes), and the scale
    and bias of the batch norms that have a passport.

    Adversary: has the weights and this code, and a few labelled images; no key.
    Budget:    `steps` steps of 16 images for each learning rate; the best rate counts,
               judged on the audited images, which no adversary could do better.
    Success:   much better than the control, which has the same images and steps but
               not the stolen weights.
    Limits:    few steps and few rates; a patient adversary gets more. It did not
               converge if the loss was still falling at the end.
    Source:    the fine-tuning attack of AprilPyone and Kiya 2021, arXiv:2109.00224;
               the adapters are our own.

    Attributes:
        labelled: The numbers of labelled images; those above the pool are left out.
        steps: The steps of each training.
        share: Another number, as a share of the model's training images.
        rates: Learning rates for everything, and for parts.
        adapter_rates: Learning rates for the adapters.
    """

    name: ClassVar[str] = "retraining"
    needs_weights: ClassVar[bool] = True
    labelled: tuple[int, ...] = (4, 16)
    share: float = 0.0
    steps: int = 100
    rates: tuple[float, ...] = (2e-3,)
    adapter_rates: tuple[float, ...] = (1e-2,)

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""
        return cls(
            seed=seed,
            labelled=budget.labelled,
            share=budget.labelled_share,
            steps=budget.steps,
            rates=budget.rates,
            adapter_rates=budget.adapter_rates,
        )

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if min(self.labelled) > len(scene.pool):
            return f"it needs at least {min(self.labelled)} labelled images"
        return ""

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Return numbers of labels above the pool, and too large adapters."""
        own = len(scene.pool)
        parts = [
            f"with {number} labelled images: the adversary has {own}"
            for number in self.numbers(scene)
            if number > own
        ]
        if not scene.once(parts_of):
            parts.append("parts: torch.fx cannot trace the model")
        if why := too_large(scene):
            parts.append(f"adapters: {why}")
        return tuple(parts)

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return every part, with increasing numbers of labelled images."""
        names = [EVERYTHING, *scene.once(parts_of)]
        if not too_large(scene):
            names.append(Adapters.of(scene).name)
        return [
            (Variant(name, number, number),)
            for number in self.numbers(scene)
            if number <= len(scene.pool)
            for name in names
        ]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Train each at every learning rate, and keep the best."""
        pieces = scene.once(parts_of)
        for variant in group:
            pool = subset(scene.pool, variant.labels)
            lesson = Lesson(pool, self.steps, self.seed, scene.tick)
            if variant.name == EVERYTHING:
                tried = [self._everything(scene, lesson, r) for r in self.rates]
            elif variant.name in pieces:
                layers = pieces[variant.name]
                tried = [self._part(scene, lesson, layers, r) for r in self.rates]
            else:
                tried = [self._adapter(scene, lesson, r) for r in self.adapter_rates]
            yield best_of_trained(
                scene, tried, self.name, variant, rung="T4", steps=self.steps
            )

    def _everything(self, scene: Scene, lesson: Lesson, rate: float) -> Trained:
        subject = scene.stolen.copy(learns=True)
        settled = lesson.teach(subject, subject.model.parameters(), NO_KEY, rate)
        return scene.referee(subject.model, NO_KEY), settled

    def numbers(self, scene: Scene) -> list[int]:
        """Return the numbers of labelled images, in order."""
        share = share_of(self.share, scene.trained_on)
        return sorted({*self.labelled, *([share] if share else [])})

    def _part(
        self, scene: Scene, lesson: Lesson, layers: tuple[str, ...], rate: float
    ) -> Trained:
        model, settled = self._trained_part(scene, lesson, layers, rate)
        return scene.referee(model, NO_KEY), settled

    def _trained_part(
        self, scene: Scene, lesson: Lesson, layers: tuple[str, ...], rate: float
    ) -> tuple[nn.Module, bool]:
        subject = scene.stolen.copy()
        model = subject.model
        learned = [
            parameter
            for layer in layers
            for parameter in model.get_submodule(layer).requires_grad_().parameters()
        ]
        return model, lesson.teach(subject, learned, NO_KEY, rate)

    def _adapter(self, scene: Scene, lesson: Lesson, rate: float) -> Trained:
        subject = scene.stolen.copy()
        adapters = Adapters.of(scene)
        condition = adapters.condition
        settled = lesson.teach(subject, adapters.parameters(), condition, rate)
        return scene.referee(subject.model, condition), settled


def parts_of(scene: Scene) -> dict[str, tuple[str, ...]]:
    """Return the layers of each part of a model that can be trained alone."""
    model = scene.stolen.model
    first = readers(model, "")
    parts = {
        "stem": (
            *first,
            *(name for layer in first for name in norms_after(model, layer)),
        ),
        "head": last_layers(model),
        "readers": tuple(
            dict.fromkeys(
                name for layer in scene.spec.layers for name in readers(model, layer)
            )
        ),
    }
    if scene.spec.keys_norms:
        parts[NORMS] = tuple(one.norm for one in keyed_norms(model))
    return {name: layers for name, layers in parts.items() if layers}
