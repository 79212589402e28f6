"""Train a few parameters on a few images, for re-training and its control."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Pool, Scene, Tick, Variant
from mlguard.audit.attacks.search.objectives import ObjectiveName, Statistics, entropy
from mlguard.audit.attacks.seeded import Seeded
from mlguard.audit.findings import Outcome, Rung
from mlguard.audit.target import Subject
from mlguard.data.draws import Draws
from mlguard.models import Condition, logits_of, output_of
from mlguard.models.conditions import Output
from mlguard.protect.training import cross_entropy_loss
from mlguard.tasks import Counts

BATCH = 16  # images of a step, drawn with replacement, each flipped or not
SETTLED = 0.9  # the last quarter's loss, as a share of the previous quarter's
LEARNED = 0.05  # nats; below this, the images are memorized

Chosen = tuple[int, bool]  # an image of the pool, and whether to mirror it
Trained = tuple[Counts, bool]  # its result, and whether training settled
Watch = Callable[[float], None]

_DRAWS = 0x1EA2  # keeps these draws apart from those of a search


@dataclass(frozen=True)
class Lesson:
    """The material of a training.

    Attributes:
        pool: Labelled images.
        steps: The number of steps.
        seed: The seed of the draws of images and flips.
        tick: Called with the progress of the work.
    """

    pool: Pool
    steps: int
    seed: int
    tick: Tick

    def teach(
        self,
        subject: Subject,
        parameters: Iterable[nn.Parameter],
        condition: Condition,
        rate: float,
        *,
        objective: ObjectiveName = "cross-entropy",
        watch: Watch = lambda progress: None,
    ) -> bool:
        """Train; the rate falls linearly to zero.

        The mode of the model decides whether batch norms learn their statistics.

        Args:
            subject: The model.
            parameters: The parameters to learn, of the model or of the condition.
            condition: The condition under which the model runs.
            rate: The first learning rate.
            objective: The objective to minimize; only cross-entropy uses labels.
            watch: Called before every step with the progress, from 0 to 1.

        Returns:
            Whether it settled: more steps would have changed little.
        """
        with Seeded(self.seed):  # seed of dropout
            run = Shown(subject, condition, self.pool)
            optimizer = torch.optim.AdamW(list(parameters), lr=rate, weight_decay=0.0)
            losses = []
            for step in range(self.steps):
                watch(step / self.steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate * (1 - step / self.steps)
                loss = self._loss(run, self._draw(step), objective)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.detach())
            watch(1.0)
            return settled([float(loss) for loss in losses])

    @property
    def batches(self) -> int:
        """The number of steps that use every image once."""
        return -(-len(self.pool) // BATCH)

    @torch.no_grad()
    def look(
        self, subject: Subject, condition: Condition, objective: ObjectiveName
    ) -> float:
        """Return the mean objective over the pool; lower is better."""
        run = Shown(subject, condition, self.pool)
        total = 0.0
        for first in range(self.batches):
            rows = [(first * BATCH + i) % len(self.pool) for i in range(BATCH)]
            total += float(self._loss(run, [(row, False) for row in rows], objective))
        return total / self.batches

    def _loss(
        self, run: "Shown", chosen: list[Chosen], objective: ObjectiveName
    ) -> Tensor:
        self.tick(BATCH)
        if objective == "batch-norm":
            with Statistics(run.subject, 1, smooth=True) as statistics:
                run(chosen)
            return statistics.mismatch.sum()
        if objective == "entropy":
            return entropy(logits_of(run(chosen)).float()[None]).sum()
        masks = torch.stack([_flipped(self.pool.masks[row], f) for row, f in chosen])
        return cross_entropy_loss(
            run(chosen),
            masks.to(run.subject.device),
            ignore_index=self.pool.ignore_index,
            aux=0.0,
        )

    def _draw(self, step: int) -> list[Chosen]:
        """Draw the images of a step, and whether to mirror them."""
        draws = Draws(_DRAWS, self.seed, step)
        rows = [draws.between(0, len(self.pool) - 1) for _ in range(BATCH)]
        return [(row, bool(draws.between(0, 1))) for row in rows]


@dataclass(frozen=True)
class Shown:
    """A model under a condition, run on images of a pool, batch by batch."""

    subject: Subject
    condition: Condition
    pool: Pool

    def __call__(self, chosen: Sequence[Chosen]) -> Output:
        """Return the model's output for some images, at most BATCH."""
        return output_of(
            self.subject.model,
            self._images(chosen),
            self.condition,
            self.subject.normalization,
        )

    def _images(self, chosen: Sequence[Chosen]) -> Tensor:
        images = [_flipped(self.pool.images[row], flip) for row, flip in chosen]
        return torch.stack(images).to(self.subject.device)


def _flipped(part: Tensor, flip: bool) -> Tensor:
    return part.flip(-1) if flip and part.ndim else part


def best_of_trained(
    scene: Scene,
    tried: Sequence[Trained],
    attack: str,
    variant: Variant,
    *,
    rung: Rung,
    steps: int,
    notes: tuple[str, ...] = (),
) -> Outcome:
    """Return the outcome of an attack that was trained at several learning rates.

    Args:
        scene: Whose model it is.
        tried: One training for each rate, at least one.
        attack: The name of the attack in ATTACKS.
        variant: The name of the variant.
        rung: The rung of the ladder of adversaries.
        steps: Of each training.
        notes: Codes of docs/spec/audit-v4.md, section 7.
    """
    counts, converged = max(tried, key=lambda one: scene.task.score_of(one[0]))
    return Outcome(
        attack=attack,
        variant=variant.name,
        rung=rung,
        images=variant.images,
        labels=variant.labels,
        queries=len(tried) * steps * BATCH,
        counts=counts,
        converged=converged,
        notes=notes,
    )


def settled(losses: list[float]) -> bool:
    """Whether a training's loss stopped falling, or cannot fall further."""
    quarter = max(1, len(losses) // 4)
    last = float(np.mean(losses[-quarter:]))
    before = float(np.mean(losses[-2 * quarter : -quarter] or losses[:1]))
    return last < LEARNED or last > SETTLED * before
