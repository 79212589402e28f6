"""Train the stolen model on a few labelled images until it needs no key."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Attack, Scene
from mlguard.audit.attacks.guesses import cut, join
from mlguard.audit.attacks.learning import BATCH, Lesson
from mlguard.audit.attacks.search import subset
from mlguard.audit.budgets import Budget
from mlguard.audit.measure import Subject
from mlguard.audit.outcomes import Outcome
from mlguard.models.keyed_transform import plain
from mlguard.tasks import Counts
from mlguard.transforms.blocks import block_length

MAX_ADAPTER_LENGTH = 3072  # L at M = 32; the adapter has L² weights, 9.4 million there

Trained = tuple[Counts, bool]  # what it gives, and whether training settled


@dataclass(frozen=True)
class Retraining(Attack):
    """Fine-tune everything, or learn the key's inverse as one matrix on every block.

    Adversary: has the weights and this code, and a few labelled images; no key.
    Budget:    `steps` steps of 16 images for each learning rate; the best rate counts,
               judged on the audited images, which no adversary could do better.
    Success:   much better than the control, which has the same images and steps but
               not the stolen weights.
    Limits:    few steps and few rates; a patient adversary gets more. It did not
               converge if the loss was still falling at the end.
    Source:    the fine-tuning attack of AprilPyone and Kiya 2021, arXiv:2109.00224;
               the adapter is our own.

    Attributes:
        labelled: With how many labelled images; numbers above the pool are left out.
        steps: Of each training.
        rates: Learning rates for everything.
        adapter_rates: Learning rates for the adapter.
    """

    name: ClassVar[str] = "retraining"
    labelled: tuple[int, ...] = (4, 16)
    steps: int = 100
    rates: tuple[float, ...] = (2e-3,)
    adapter_rates: tuple[float, ...] = (1e-2,)

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """The attack as strong as a budget allows."""
        return cls(
            seed=seed,
            labelled=budget.labelled,
            steps=budget.steps,
            rates=budget.rates,
            adapter_rates=budget.adapter_rates,
        )

    def impossible(self, scene: Scene) -> str:
        """Why it cannot run on this model, in words; empty if it can."""
        if min(self.labelled) > len(scene.pool):
            return f"it needs {min(self.labelled)} labelled images"
        return ""

    def left_out(self, scene: Scene) -> tuple[str, ...]:
        """Numbers of labels above the pool, and an adapter that would be too large."""
        own = len(scene.pool)
        parts = [
            f"with {number} labelled images: the adversary has {own}"
            for number in self.labelled
            if number > own
        ]
        if not _fits(scene):
            size = scene.spec.block_size
            parts.append(f"block adapter: too large a matrix for {size}×{size} blocks")
        return tuple(parts)

    def run(self, scene: Scene) -> Iterator[Outcome]:
        """Both variants, with more and more labelled images."""
        for number in self.labelled:
            if number > len(scene.pool):
                continue
            pool = subset(scene.pool, number)
            lesson = Lesson(pool, self.steps, self.seed, scene.tick)
            everything = [self._everything(scene, lesson, r) for r in self.rates]
            yield self._outcome(scene, "everything", number, everything)
            if _fits(scene):
                adapted = [self._adapter(scene, lesson, r) for r in self.adapter_rates]
                yield self._outcome(scene, "block adapter", number, adapted)

    def _everything(self, scene: Scene, lesson: Lesson, rate: float) -> Trained:
        model = copy.deepcopy(scene.stolen.model).train().requires_grad_(True)
        subject = Subject(model, scene.stolen.normalization, scene.stolen.device)
        settled = lesson.teach(subject, model.parameters(), plain, rate)
        return scene.referee(model, plain), settled

    def _adapter(self, scene: Scene, lesson: Lesson, rate: float) -> Trained:
        model = copy.deepcopy(scene.stolen.model).eval().requires_grad_(False)
        subject = Subject(model, scene.stolen.normalization, scene.stolen.device)
        adapter = BlockAdapter(scene.spec.block_size).to(scene.stolen.device)
        settled = lesson.teach(subject, adapter.parameters(), adapter, rate)
        return scene.referee(model, adapter), settled

    def _outcome(
        self, scene: Scene, variant: str, labels: int, tried: list[Trained]
    ) -> Outcome:
        counts, settled = max(tried, key=lambda one: scene.task.score_of(one[0]))
        return Outcome(
            attack=self.name,
            variant=variant,
            rung="T4",
            images=labels,
            labels=labels,
            queries=len(tried) * self.steps * BATCH,
            counts=counts,
            converged=settled,
        )


def _fits(scene: Scene) -> bool:
    return block_length(scene.spec.block_size) <= MAX_ADAPTER_LENGTH


class BlockAdapter(nn.Module):
    """One L×L matrix and an offset, the same for every block; at first the identity.

    `shf` and `np` are of this form, so a perfect one is a key. `ffx` is not.
    """

    def __init__(self, block_size: int) -> None:
        super().__init__()
        self._block_size = block_size
        length = block_length(block_size)
        self.matrix = nn.Parameter(torch.eye(length))
        self.offset = nn.Parameter(torch.zeros(length))

    def forward(self, images: Tensor) -> Tensor:
        """What the stolen model is shown.

        Shape:
            images   (N, 3, H, W) uint8
            returns  (N, 3, H, W) float32
        """
        blocks = cut(plain(images), self._block_size)
        adapted = blocks @ self.matrix.T + self.offset
        return join(adapted, self._block_size, images.shape[-2:])
