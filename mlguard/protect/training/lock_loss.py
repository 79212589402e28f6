"""Lock training, experimental: push what users without the key get to a useless answer.

Beside the task, a step shows the model the same images as an unauthorized user does
(without a key, under a random key, under a key close to the correct one: one of them a
step, in turns) and pulls its answer towards the same probability for every class.
What that buys, and what it costs, is in docs/methods.md. Optionally the authorized
answer is held close to that of a plain model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlguard import recipe
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.models import NO_KEY, Condition, Normalization, keyed, logits_of, output_of
from mlguard.transforms import TransformSet
from mlguard.transforms.nearby import nearby

KINDS = 3  # no key, a random key, a nearby key
Derive = Callable[[ModelSubkeys], TransformSet]


@dataclass(frozen=True)
class LockLoss:
    """What lock training adds to the loss, and what it needs beside the model.

    Attributes:
        spec: The recipe's [lock] section.
        subkeys: Of the model; every other key is drawn from them, so that the same
            run draws the same ones and nobody else can.
        derive: What a key's subkeys do for the model.
        normalization: The model's mean and std.
        device: Where to compute.
        teacher: The plain model whose answers are kept; None keeps none.
    """

    spec: recipe.Lock
    subkeys: ModelSubkeys
    derive: Derive
    normalization: Normalization
    device: torch.device
    teacher: nn.Module | None = None

    def loss(
        self, model: nn.Module, images: Tensor, authorized: Tensor, step: int
    ) -> Tensor:
        """What is added to the task's loss in one step.

        What has no weight is not computed.

        Args:
            model: In train mode.
            images: Of the step.
            authorized: The model's logits under the correct key.
            step: Its number; decides which unauthorized user it is.

        Shape:
            images      (N, 3, H, W) uint8
            authorized  (N, classes, H, W) or (N, classes)
            returns     () float32
        """
        loss = torch.zeros((), device=images.device)
        if self.spec.weight:
            condition = self.condition(step)
            with frozen_statistics(model, frozen=self.spec.statistics == "frozen"):
                output = output_of(model, images, condition, self.normalization)
            loss = loss + self.spec.weight * from_useless(logits_of(output))
        if self.teacher is not None and self.spec.distill:
            with torch.no_grad():
                taught = output_of(self.teacher, images, NO_KEY, self.normalization)
            loss = loss + self.spec.distill * apart(authorized, logits_of(taught))
        return loss

    @cached_property
    def _correct(self) -> TransformSet:
        return self.derive(self.subkeys)

    def condition(self, step: int) -> Condition:
        """What the unauthorized user of a step does."""
        kind, draw = step % KINDS, step // KINDS % self.spec.keys
        if kind == 0:
            return NO_KEY
        if kind == 1:
            key = ModelKey(self.subkeys.derive(f"lock/random/{draw}"))
            other = self.derive(key.for_model(self.subkeys.protection_id))
            return keyed(other, self.device)
        near = nearby(
            self._correct,
            self.spec.nearby,
            subkeys=self.subkeys,
            use=f"lock/nearby/{draw}",
        )
        return keyed(near, self.device)


def from_useless(logits: Tensor) -> Tensor:
    """How far an answer is from the same probability for every class; nats.

    The divergence of the model's distribution from the uniform one, mean over pixels.
    It is 0 for the useless answer and at most log(classes).
    """
    logs = logits.float().log_softmax(1)
    entropy = -(logs.exp() * logs).sum(1)
    classes = torch.tensor(float(logits.shape[1]), device=logits.device)
    return (classes.log() - entropy).mean()


def apart(logits: Tensor, taught: Tensor) -> Tensor:
    """How far one answer is from another's; nats, mean over pixels."""
    pointwise = F.kl_div(
        logits.float().log_softmax(1),
        taught.float().log_softmax(1),
        reduction="none",
        log_target=True,
    )
    return pointwise.sum(1).mean()


@contextmanager
def frozen_statistics(model: nn.Module, *, frozen: bool) -> Iterator[None]:
    """Let batch norms use their running statistics, and leave them as they are.

    Otherwise useless answers would be learned for statistics that only a batch of
    unauthorized images has, and the running ones would be of both kinds mixed.
    """
    norms = [
        layer
        for layer in model.modules()
        if frozen and isinstance(layer, _BatchNorm) and layer.training
    ]
    for layer in norms:
        layer.eval()
    try:
        yield
    finally:
        for layer in norms:
            layer.train()
