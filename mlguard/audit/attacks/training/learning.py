"""Train a few parameters on a few images: what re-training and its control share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Pool, Scene, Tick
from mlguard.audit.attacks.search.objectives import ObjectiveName, Statistics, entropy
from mlguard.audit.findings import Outcome, Rung
from mlguard.audit.target import Subject
from mlguard.data.draws import Draws
from mlguard.models import Condition, Cut, logits_of, output_of
from mlguard.models.condition import Output
from mlguard.models.cut import Kept, choose
from mlguard.models.keyed_transform import plain
from mlguard.protect.learn import cross_entropy_loss
from mlguard.tasks import Counts

BATCH = 16  # images of a step, drawn with replacement, each flipped or not
SETTLED = 0.9  # the last quarter's loss, as a share of the quarter before
LEARNED = 0.05  # nats; below this the images are learned by heart
MAX_KEPT_BYTES = 1 << 30  # of feature maps that are not computed again

Chosen = tuple[int, bool]  # an image of the pool, and whether it is mirrored
Trained = tuple[Counts, bool]  # what it gives, and whether training settled
Watch = Callable[[float], None]

_DRAWS = 0x1EA2  # keeps these draws apart from those of a search


@dataclass(frozen=True)
class Lesson:
    """What is learned from.

    Attributes:
        pool: Labelled images.
        steps: How many.
        seed: Of the draws of images and flips.
        tick: Told how the work goes.
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

        Whether layers that normalize batches learn their statistics is decided by the
        mode that the model is in.

        Args:
            subject: The model.
            parameters: What is learned, of the model or of the condition.
            condition: How the model is run.
            rate: The first learning rate.
            objective: What is made smaller; only cross-entropy looks at labels.
            watch: Told before every step how much is done, from 0 to 1.

        Returns:
            Whether it settled: more steps would have changed little.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)  # of dropout
            run = Shown.of(subject, condition, self.pool)
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
        """How many steps it takes to show every image once."""
        return -(-len(self.pool) // BATCH)

    @torch.no_grad()
    def look(
        self, subject: Subject, condition: Condition, objective: ObjectiveName
    ) -> float:
        """The mean objective over the pool; lower is better."""
        run = Shown.of(subject, condition, self.pool)
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
        """Which images a step shows, and whether mirrored."""
        draws = Draws(_DRAWS, self.seed, step)
        rows = [draws.between(0, len(self.pool) - 1) for _ in range(BATCH)]
        return [(row, bool(draws.between(0, 1))) for row in rows]


class Shown:
    """Show images of a pool to a model under a condition, batch by batch.

    Where the model is fixed and the condition changes feature maps alone, what comes
    before them is computed once for every image and its mirror image, if there is
    room.

    Args:
        subject: The model.
        condition: How it is run.
        pool: The images.
        cut: The model cut at the condition's feature maps; None runs it whole.
    """

    def __init__(
        self, subject: Subject, condition: Condition, pool: Pool, cut: Cut | None
    ) -> None:
        self.subject, self._condition, self._pool = subject, condition, pool
        self._cut = cut
        self._kept = self._keep(cut) if cut is not None else None

    @classmethod
    def of(cls, subject: Subject, condition: Condition, pool: Pool) -> Self:
        """Cut the model where that helps."""
        fixed = not subject.model.training and condition.image is plain
        fixed &= not any(one.requires_grad for one in subject.model.parameters())
        cut = Cut.of(subject.model, tuple(condition.features)) if fixed else None
        return cls(subject, condition, pool, cut)

    def __call__(self, chosen: Sequence[Chosen]) -> Output:
        """What the model gives for some images; as many as BATCH."""
        if self._cut is None:
            return output_of(
                self.subject.model,
                self._images(chosen),
                self._condition,
                self.subject.normalization,
            )
        if self._kept is None:
            kept = self._before(self._cut, chosen)
        else:
            rows = [2 * row + flipped for row, flipped in chosen]
            kept = choose(self._kept, torch.tensor(rows, device=self.subject.device))
        return self._cut.after(kept, self._condition.features)

    def _keep(self, cut: Cut) -> Kept | None:
        """The beginning of the model for all images; None if that is too much."""
        everything = [(row, f) for row in range(len(self._pool)) for f in (False, True)]
        first = self._before(cut, _filled(everything[:BATCH]))
        size = sum(one.nbytes for one in first.values() if torch.is_tensor(one))
        if size * len(everything) / BATCH > MAX_KEPT_BYTES:
            return None
        parts = [
            first
            if start == 0
            else self._before(cut, _filled(everything[start:][:BATCH]))
            for start in range(0, len(everything), BATCH)
        ]
        return {
            name: torch.cat([part[name] for part in parts])[: len(everything)]
            if torch.is_tensor(value)
            else value
            for name, value in first.items()
        }

    @torch.no_grad()
    def _before(self, cut: Cut, chosen: Sequence[Chosen]) -> Kept:
        pixels = self.subject.normalization(plain(self._images(chosen)))
        return cut.before(pixels.contiguous(memory_format=torch.channels_last))

    def _images(self, chosen: Sequence[Chosen]) -> Tensor:
        images = [_flipped(self._pool.images[row], flip) for row, flip in chosen]
        return torch.stack(images).to(self.subject.device)


def _filled(chosen: Sequence[Chosen]) -> list[Chosen]:
    """As many as a batch has, the first ones again at the end."""
    return [chosen[index % len(chosen)] for index in range(BATCH)]


def _flipped(part: Tensor, flip: bool) -> Tensor:
    return part.flip(-1) if flip and part.ndim else part


def best_of_trained(
    scene: Scene,
    tried: Sequence[Trained],
    *,
    attack: str,
    variant: str,
    rung: Rung,
    labels: int,
    steps: int,
    notes: tuple[str, ...] = (),
) -> Outcome:
    """The outcome of one attack that was trained at several learning rates.

    Args:
        scene: Whose model it is.
        tried: One training for each rate, at least one.
        attack: Its name in ATTACKS.
        variant: Which of its forms.
        rung: Of the ladder of adversaries.
        labels: Labelled images that it had.
        steps: Of each training.
        notes: Codes of docs/spec/audit-v2.md, section 4.
    """
    counts, converged = max(tried, key=lambda one: scene.task.score_of(one[0]))
    return Outcome(
        attack=attack,
        variant=variant,
        rung=rung,
        images=labels,
        labels=labels,
        queries=len(tried) * steps * BATCH,
        counts=counts,
        converged=converged,
        notes=notes,
    )


def settled(losses: list[float]) -> bool:
    """Whether a training's loss stopped falling, or has nowhere left to fall."""
    quarter = max(1, len(losses) // 4)
    last = float(np.mean(losses[-quarter:]))
    before = float(np.mean(losses[-2 * quarter : -quarter] or losses[:1]))
    return last < LEARNED or last > SETTLED * before
