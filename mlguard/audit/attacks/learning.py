"""Train a few parameters on a few images: what re-training and its control share."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Pool, Tick
from mlguard.audit.measure import Subject
from mlguard.data.draws import Draws
from mlguard.models import Condition, output_of
from mlguard.protect.learn import segmentation_loss

BATCH = 16  # images of a step, drawn with replacement, each flipped or not
SETTLED = 0.9  # the last quarter's loss, as a share of the quarter before
LEARNED = 0.05  # nats; below this the images are learned by heart

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
    ) -> bool:
        """Train; the rate falls linearly to zero.

        Whether layers that normalize batches learn their statistics is decided by the
        mode that the model is in.

        Returns:
            Whether it settled: more steps would have changed little.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)  # of dropout
            return settled(self._losses(subject, parameters, condition, rate))

    def _losses(
        self,
        subject: Subject,
        parameters: Iterable[nn.Parameter],
        condition: Condition,
        rate: float,
    ) -> list[float]:
        optimizer = torch.optim.AdamW(list(parameters), lr=rate, weight_decay=0.0)
        losses = []
        for step in range(self.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - step / self.steps)
            images, masks = self._batch(step, subject.device)
            output = output_of(subject.model, images, condition, subject.normalization)
            loss = segmentation_loss(
                output, masks, ignore_index=self.pool.ignore_index, aux=0.0
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
            self.tick(BATCH)
        return [float(loss) for loss in losses]

    def _batch(self, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        draws = Draws(_DRAWS, self.seed, step)
        chosen = [draws.between(0, len(self.pool) - 1) for _ in range(BATCH)]
        images, masks = self.pool.images[chosen], self.pool.masks[chosen]
        for index in range(BATCH):
            if draws.between(0, 1):
                images[index] = images[index].flip(-1)
                if masks.ndim > 1:  # else the class of the whole image
                    masks[index] = masks[index].flip(-1)
        return images.to(device), masks.to(device)


def settled(losses: list[float]) -> bool:
    """Whether a training's loss stopped falling, or has nowhere left to fall."""
    quarter = max(1, len(losses) // 4)
    last = float(np.mean(losses[-quarter:]))
    before = float(np.mean(losses[-2 * quarter : -quarter] or losses[:1]))
    return last < LEARNED or last > SETTLED * before
