"""The fair control: the same images and steps, without the stolen weights.

With n labelled images, anybody can train a model without stealing one. Only an attack's
gain over that is the worth of the theft.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mlguard import recipe
from mlguard.audit.attacks.base import Scene
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.training.learning import BATCH, Lesson
from mlguard.audit.attacks.training.patience import Patience, Student
from mlguard.audit.findings import Budget, Control
from mlguard.audit.target import Subject
from mlguard.models import NO_KEY
from mlguard.tasks import Counts


@dataclass(frozen=True)
class Controls:
    """The controls of one scene.

    Attributes:
        scene: Whose model was stolen.
        budget: What attack and control may spend alike.
        seed: Of everything drawn.
        patient: Whether `patient-retraining` was run; then the control trains as it
            does too, and the better one counts.
    """

    scene: Scene
    budget: Budget
    seed: int
    patient: bool = False

    def at(self, images: int) -> Control:
        """Train the control with a number of labelled images."""
        trained = {
            name: self.best(images, start) for name, start in self.starts().items()
        }
        queries = len(self.budget.rates) * self.budget.steps * BATCH
        if self._is_patient(images):
            queries += self._patience(images).queries
        return Control(
            images=images,
            scratch=trained["scratch"][0],
            ancestor=trained["ancestor"][0] if "ancestor" in trained else None,
            queries=len(trained) * queries,
            converged=all(settled for _, settled in trained.values()),
        )

    def starts(self) -> dict[str, recipe.Model]:
        """Return the [model] sections that controls start from, by name.

        Returns:
            `scratch`, and `ancestor` where the public weights are on this machine.
        """
        public = self.scene.public
        starts = {"scratch": public.model_copy(update={"weights": "none"})}
        if has_ancestor(public):
            starts["ancestor"] = public
        return starts

    def best(self, images: int, start: recipe.Model) -> tuple[Counts, bool]:
        """Train from one start at every learning rate.

        Args:
            images: The number of labelled images.
            start: One of `starts`.

        Returns:
            The counts of the best model, and whether its loss had settled.
        """
        scene = self.scene
        pool = subset(scene.pool, images)
        lesson = Lesson(pool, self.budget.steps, self.seed, scene.tick)
        tried = []
        for rate in self.budget.rates:
            model = self._new_model(start)
            subject = Subject(model, scene.stolen.normalization, scene.stolen.device)
            settled = lesson.teach(subject, model.train().parameters(), NO_KEY, rate)
            tried.append((scene.referee(model, NO_KEY), settled))
        if self._is_patient(images):
            learned, settled = self._patience(images).teach(lambda: self._new(start))
            counts = scene.referee(learned.subject.model, NO_KEY)
            tried.append((counts, settled))
        return max(tried, key=lambda one: scene.task.score_of(one[0]))

    def _is_patient(self, images: int) -> bool:
        budget = self.budget
        asked = self.patient and images in budget.patient_labelled
        return asked and budget.patient_steps > 0

    def _patience(self, images: int) -> Patience:
        scene, budget = self.scene, self.budget
        steps, rates = budget.patient_steps, budget.patient_rates
        return Patience(scene.pool, images, steps, rates, self.seed, scene.tick)

    def _new(self, start: recipe.Model) -> Student:
        stolen, model = self.scene.stolen, self._new_model(start).train()
        subject = Subject(model, stolen.normalization, stolen.device)
        return Student(subject, NO_KEY, list(model.parameters()))

    def _new_model(self, start: recipe.Model) -> nn.Module:
        model = self.scene.new_model(start, seed=self.seed)
        return model.to(self.scene.stolen.device).to(memory_format=torch.channels_last)


def has_ancestor(spec: recipe.Model) -> bool:
    """Whether the recipe's initial weights are a file on this machine.

    Weights that torchvision would have to download are not fetched for a control.
    """
    return spec.weights.endswith(".safetensors") and Path(spec.weights).is_file()
