"""The interface of attacks: their inputs, their requests and their results.

An attack sees the stolen weights, its own images, and only the leaks of its rung; it
never sees the correct key or the images that it is scored on. docs/spec/audit-v4.md,
section 6.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from mlguard import recipe
from mlguard.audit.attacks.leaks import Leaks
from mlguard.audit.attacks.seeded import Seeded
from mlguard.audit.findings import Access, Attempt, Budget, Outcome
from mlguard.audit.target import Subject
from mlguard.data import LabelledSet, epoch_positions
from mlguard.models import Condition, build_model, load_weights
from mlguard.protect.evaluate import evaluate
from mlguard.tasks import Counts, Task

Found = TypeVar("Found")

Tick = Callable[[int], None]  # how much work was done, in predictions of one image


@dataclass(frozen=True)
class Variant:
    """One of the outcomes that an attack can have on a scene.

    Attributes:
        name: The form of the attack: an objective, or what is trained.
        images: How many of the adversary's images it uses.
        labels: How many of them come with masks.
    """

    name: str
    images: int
    labels: int = 0

    @classmethod
    def of(cls, outcome: Attempt) -> Self:
        """Return the variant of an outcome, or an attempt."""
        return cls(outcome.variant, outcome.images, outcome.labels)


Group = tuple[Variant, ...]  # found together, at the cost of one of them


@dataclass(frozen=True)
class Pool:
    """The adversary's own images, in the order in which it gets them.

    Attributes:
        images: Plain images.
        masks: Their masks, or classes; attacks on a rung without labels ignore them.
        ignore_index: The value of pixels without a label.

    Shape:
        images  (N, 3, H, W) uint8
        masks   (N, H, W) uint8, or (N,) int64 for a classification
    """

    images: Tensor
    masks: Tensor
    ignore_index: int

    @classmethod
    def draw(cls, dataset: LabelledSet, number: int, *, seed: int) -> Self:
        """Return at most `number` images; fewer are a prefix of more."""
        order = epoch_positions(len(dataset), seed=seed, epoch=0)[:number]
        samples = [dataset[index] for index in order]
        images, masks = (torch.stack(part) for part in zip(*samples, strict=True))
        return cls(images, masks, dataset.task.ignore_index)

    def __len__(self) -> int:
        return len(self.images)


class Referee(Protocol):
    """A referee that scores attacks; the adversary never sees its images."""

    def __call__(self, model: nn.Module, condition: Condition) -> Counts:
        """Return the counts of a model under a condition on the audited split."""


@dataclass(frozen=True)
class SplitReferee:
    """The referee of an audit: the audited split."""

    subject: Subject
    dataset: LabelledSet
    batch: int

    def __call__(self, model: nn.Module, condition: Condition) -> Counts:
        """Return the counts of a model under a condition on the audited split."""
        own = model is self.subject.model
        return evaluate(
            model.eval(),
            self.dataset,
            {"attack": condition},
            normalization=self.subject.normalization,
            device=self.subject.device,
            batch=self.batch,
            run=self.subject.run if own else None,
        )["attack"]


@dataclass(frozen=True)
class Scene:
    """Everything that one adversary has, and the referee.

    Attributes:
        stolen: The protected model.
        spec: The recipe's [transform] section; public.
        model: The recipe's [model] section, for controls; public. None if only the
            model's graph is known.
        task: The task of the model.
        pool: The adversary's own images.
        leaks: What it has seen of the key's transforms.
        referee: Scores attacks on images that the adversary lacks.
        trained_on: How many images the model was trained on; 0 if unknown.
        build: A function that makes the model, if the recipe's architecture does not;
            public.
        access: Whether attacks have the weights, or only predictions.
        tick: Called with the progress of the work.
    """

    stolen: Subject
    spec: recipe.Transform
    model: recipe.Model | None
    task: Task
    pool: Pool
    leaks: Leaks
    referee: Referee
    trained_on: int = 0
    build: Callable[[], nn.Module] | None = None
    access: Access = "weights"
    tick: Tick = lambda work: None
    _found: dict[Any, Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def once(self, find: Callable[["Scene"], Found]) -> Found:
        """Return a function's result on this scene, computed only once.

        Several methods of an attack need the same results. They may be key material:
        they stay in memory.
        """
        if find not in self._found:
            self._found[find] = find(self)
        return cast(Found, self._found[find])

    @property
    def public(self) -> recipe.Model:
        """The recipe's [model] section, for attacks that need weights anyway."""
        if self.model is None:
            raise ValueError("nothing but a graph is known of this model")
        return self.model

    def new_model(self, start: recipe.Model, *, seed: int) -> nn.Module:
        """Return a plain model, on the CPU, with the weights of a [model] section.

        Args:
            start: The section.
            seed: The seed of the parameters that are not loaded.
        """
        with Seeded(seed):
            if self.build is None:
                return build_model(start, self.task.classes)
            model = self.build()
            load_weights(model, start)
            return model


@dataclass(frozen=True)
class Attack(ABC):
    """One way to use stolen weights without the key.

    Attributes:
        needs_weights: Whether it needs weights and not only predictions.
        reads_statistics: Whether it judges guesses by the statistics of batch norms, if
            it has the weights.
        seed: The seed of everything random in it.
    """

    name: ClassVar[str]
    needs_weights: ClassVar[bool] = False
    reads_statistics: ClassVar[bool] = False
    seed: int

    @classmethod
    @abstractmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the attack as strong as a budget allows."""

    @abstractmethod
    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Return which parts of it cannot run on this model, and why."""
        return ()

    @abstractmethod
    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return all its variants on this model, in groups that are found together.

        The same scene has the same groups, in the same order, in every process.
        """

    @abstractmethod
    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Yield the outcomes of one group, or of a part of it, in its order.

        The same seed always gives the same outcomes, whatever else was run.
        """
