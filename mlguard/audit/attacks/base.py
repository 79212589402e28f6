"""What an attack is given, what it may ask of its owner, and what it gives back.

An attack sees the stolen weights, its own images, and only those leaks that its rung
says; it never sees the correct key, and the images it is scored on never reach it.
docs/spec/audit-v4.md, section 6.
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
        name: Which form of the attack: an objective, or what is trained.
        images: The adversary's images it uses.
        labels: How many of them come with masks.
    """

    name: str
    images: int
    labels: int = 0

    @classmethod
    def of(cls, outcome: Attempt) -> Self:
        """Which one an outcome, or an attempt, is of."""
        return cls(outcome.variant, outcome.images, outcome.labels)


Group = tuple[Variant, ...]  # found together, for no more than one of them costs


@dataclass(frozen=True)
class Pool:
    """The adversary's own images, in the order in which it gets them.

    Attributes:
        images: Plain images.
        masks: Their masks, or classes; an attack on a rung without labels does not
            look at them.
        ignore_index: The value of pixels without a label.

    Shape:
        images  (N, 3, H, W) uint8
        masks   (N, H, W) uint8, or (N,) int64 of a classification
    """

    images: Tensor
    masks: Tensor
    ignore_index: int

    @classmethod
    def draw(cls, dataset: LabelledSet, number: int, *, seed: int) -> Self:
        """Draw at most `number` images; fewer images are the first of more."""
        order = epoch_positions(len(dataset), seed=seed, epoch=0)[:number]
        samples = [dataset[index] for index in order]
        images, masks = (torch.stack(part) for part in zip(*samples, strict=True))
        return cls(images, masks, dataset.task.ignore_index)

    def __len__(self) -> int:
        return len(self.images)


class Referee(Protocol):
    """Scores what an attack made; the adversary never sees its images."""

    def __call__(self, model: nn.Module, condition: Condition) -> Counts:
        """Count a model under a condition on the audited split."""


@dataclass(frozen=True)
class SplitReferee:
    """The referee of an audit: the audited split."""

    subject: Subject
    dataset: LabelledSet
    batch: int

    def __call__(self, model: nn.Module, condition: Condition) -> Counts:
        """Count a model under a condition on the audited split."""
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
    """Everything one adversary has, and who scores it.

    Attributes:
        stolen: The protected model.
        spec: What kind of transform its key makes; public.
        model: The recipe's [model] section, for controls; public. None where all
            there is of a model is its graph.
        task: What the model is asked for.
        pool: The adversary's own images.
        leaks: What it has seen of the key's work.
        referee: Scores on images it does not have.
        trained_on: How many images the model was trained on; 0 if that is not known.
        build: Makes the model, if the recipe's architecture does not; public.
        access: Whether attacks can have the weights, or predictions alone.
        tick: Told how the work goes.
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
        """What a function finds on this scene, found at the first call alone.

        Whether an attack can run, what it leaves out and each of its groups ask for
        the same things. They may be key material: they stay in memory.
        """
        if find not in self._found:
            self._found[find] = find(self)
        return cast(Found, self._found[find])

    @property
    def public(self) -> recipe.Model:
        """The recipe's [model] section, for what needs weights anyway."""
        if self.model is None:
            raise ValueError("nothing but a graph is known of this model")
        return self.model

    def new_model(self, start: recipe.Model, *, seed: int) -> nn.Module:
        """A plain model, on the CPU, from the weights that a [model] section names.

        Args:
            start: The section.
            seed: Of the parameters that are not loaded.
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
        needs_weights: Whether predictions are not enough for it.
        reads_statistics: Whether it judges guesses by what batch normalization stored,
            where it has weights to read that from.
        seed: Of everything random in it.
    """

    name: ClassVar[str]
    needs_weights: ClassVar[bool] = False
    reads_statistics: ClassVar[bool] = False
    seed: int

    @classmethod
    @abstractmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """The attack as strong as a budget allows."""

    @abstractmethod
    def impossible(self, scene: Scene) -> str:
        """Why it cannot run on this model, in words; empty if it can."""

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Parts of it that cannot run on this model, and why, in words."""
        return ()

    @abstractmethod
    def variants(self, scene: Scene) -> Sequence[Group]:
        """Everything it can find on this model, in groups that are found together.

        The same scene has the same groups, in the same order, in every process.
        """

    @abstractmethod
    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Find the outcomes of one group, or of a part of it, in its order.

        The same seed always gives the same outcomes, whatever else was run.
        """
