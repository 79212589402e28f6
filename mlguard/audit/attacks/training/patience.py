"""Train like an adversary with few labels and much time.

A short try of every learning rate, random crops, brightness and contrast, many steps,
early stopping on labels that were held out, and statistics of batch normalization
taken again from images without labels. Attacks and their controls train alike, here.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import Pool, Tick
from mlguard.audit.attacks.search.best import subset
from mlguard.audit.attacks.seeded import Seeded
from mlguard.audit.attacks.training.learning import BATCH, settled
from mlguard.audit.target import Subject
from mlguard.data.draws import Draws
from mlguard.models import Condition, output_of
from mlguard.protect.training import cross_entropy_loss

TRY = 0.1  # of the steps, for each learning rate
LOOKS = 20  # at the held-out labels, spread over a training
HELD_OUT = 0.25  # of the labels, where there are so many that one is left out
SMALLEST = 0.5  # side of a random crop, as a share of the image's
LIGHT = 0.2  # brightness and contrast change by at most so much, as a share
DECAY = 1e-2  # of AdamW

_DRAWS = 0x9A71  # keeps these draws apart from those of other trainings


@dataclass(frozen=True)
class Student:
    """The model to train.

    Attributes:
        subject: The model, in the mode in which it learns.
        condition: The condition that it runs under.
        parameters: The parameters to learn, of the model or of the condition.
    """

    subject: Subject
    condition: Condition
    parameters: Sequence[nn.Parameter]


@dataclass(frozen=True)
class Patience:
    """One adversary's images, and the length of its training.

    Attributes:
        pool: All its images; the first `labels` of them have masks.
        labels: The number of labelled images.
        steps: The steps of the training itself, of 16 images each.
        rates: The learning rates to try.
        seed: The seed of all draws.
        tick: Called with the progress of the work.
    """

    pool: Pool
    labels: int
    steps: int
    rates: tuple[float, ...]
    seed: int
    tick: Tick

    @property
    def queries(self) -> int:
        """The predictions of one image in training, without validation."""
        return BATCH * (self.steps + len(self.rates) * self._tried)

    def teach(self, student: Callable[[], Student]) -> tuple[Student, bool]:
        """Find a learning rate in short trials, and train with it.

        Args:
            student: Makes the same untrained student each time.

        Returns:
            The student as good as it was, in eval mode, and whether training settled.
        """
        rate = self.rates[0]
        if len(self.rates) > 1:
            tried = {
                one: self._train(student(), one, self._tried) for one in self.rates
            }
            rate = min(tried, key=lambda one: tried[one][0])
        learned = student()
        _, done = self._train(learned, rate, self.steps)
        self._take_statistics_again(learned)
        learned.subject.model.eval()
        return learned, done

    @property
    def _tried(self) -> int:
        return max(1, round(TRY * self.steps)) if len(self.rates) > 1 else 0

    @property
    def _parts(self) -> tuple[Pool, Pool]:
        """Return the images to learn from, and those held out."""
        held = round(HELD_OUT * self.labels)
        own = subset(self.pool, self.labels)
        rest = replace(own, images=own.images[held:], masks=own.masks[held:])
        return (rest, subset(own, held)) if held else (own, own)

    def _train(self, student: Student, rate: float, steps: int) -> tuple[float, bool]:
        """Train, and return to the state that fits the held-out labels best."""
        shown, kept = self._parts
        best, state = np.inf, None
        losses = []
        with Seeded(self.seed):
            optimizer = torch.optim.AdamW(
                list(student.parameters), lr=rate, weight_decay=DECAY
            )
            for step in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = rate * (1 - step / steps)
                images, masks = _views(shown, Draws(_DRAWS, self.seed, step))
                loss = self._loss(student, images, masks)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(loss.detach()))
                if (step + 1) % max(1, steps // LOOKS) == 0 or step + 1 == steps:
                    looks = self._look(student, kept)
                    if looks < best:
                        best, state = looks, _state_of(student)
        if state is not None:
            _restore(student, state)
        return best, settled(losses)

    def _loss(self, student: Student, images: Tensor, masks: Tensor) -> Tensor:
        self.tick(len(images))
        subject, device = student.subject, student.subject.device
        output = output_of(
            subject.model, images.to(device), student.condition, subject.normalization
        )
        return cross_entropy_loss(
            output, masks.to(device), ignore_index=self.pool.ignore_index, aux=0.0
        )

    @torch.no_grad()
    def _look(self, student: Student, kept: Pool) -> float:
        """Return the mean loss over some labels, in eval mode."""
        model = student.subject.model
        learning = model.training
        model.eval()
        total = [
            float(self._loss(student, images, masks)) * len(images)
            for images, masks in _batches(kept)
        ]
        model.train(learning)
        return sum(total) / len(kept)

    @torch.no_grad()
    def _take_statistics_again(self, student: Student) -> None:
        """Recompute statistics over all images; keep them if that fits better."""
        model = student.subject.model
        norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]
        norms = [one for one in norms if one.track_running_stats]
        _, kept = self._parts
        if not norms or not model.training:
            return
        before, state = self._look(student, kept), _state_of(student)
        momenta = [one.momentum for one in norms]
        for one in norms:
            one.reset_running_stats()
            one.momentum = None  # the plain average
        for images, masks in _batches(self.pool):
            self._loss(student, images, masks)
        for one, momentum in zip(norms, momenta, strict=True):
            one.momentum = momentum
        if self._look(student, kept) > before:
            _restore(student, state)


def _batches(pool: Pool) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, len(pool), BATCH):
        part = slice(first, first + BATCH)
        yield pool.images[part], pool.masks[part]


def _views(pool: Pool, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return a batch of random views of random images."""
    views = [_view(pool, draws) for _ in range(BATCH)]
    images, masks = (torch.stack(part) for part in zip(*views, strict=True))
    return images, masks


def _view(pool: Pool, draws: Draws) -> tuple[Tensor, Tensor]:
    row = draws.between(0, len(pool) - 1)
    image, mask = pool.images[row], pool.masks[row]
    height, width = image.shape[-2:]
    share = SMALLEST + (1 - SMALLEST) * draws.unit()
    crop = max(1, round(share * height)), max(1, round(share * width))
    top, left = (
        draws.between(0, whole - part)
        for whole, part in zip((height, width), crop, strict=True)
    )
    window = (..., slice(top, top + crop[0]), slice(left, left + crop[1]))
    size = (height, width)
    gain, shift = (LIGHT * (2 * draws.unit() - 1) for _ in range(2))
    seen = nn.functional.interpolate(
        image[window][None].float(), size, mode="bilinear", antialias=True
    )[0]
    seen = (seen * (1 + gain) + 255 * shift / 2).clamp(0, 255).to(torch.uint8)
    if mask.ndim:
        small = mask[window][None, None].float()
        mask = nn.functional.interpolate(small, size, mode="nearest")[0, 0].to(mask)
    if draws.between(0, 1):
        seen, mask = seen.flip(-1), mask.flip(-1) if mask.ndim else mask
    return seen, mask


def _state_of(student: Student) -> tuple[dict[str, Tensor], list[Tensor]]:
    learned = [one.detach().clone() for one in student.parameters]
    return copy.deepcopy(student.subject.model.state_dict()), learned


@torch.no_grad()
def _restore(student: Student, state: tuple[dict[str, Tensor], list[Tensor]]) -> None:
    weights, learned = state
    student.subject.model.load_state_dict(weights)
    for parameter, value in zip(student.parameters, learned, strict=True):
        parameter.copy_(value)
