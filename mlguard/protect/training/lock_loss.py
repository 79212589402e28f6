"""Lock training (experimental): push answers without the key towards useless ones.

Beside the task, each step runs the model on the same images as an unauthorized user
would (without a key, under a random key, or under a key close to the correct one, in
turns) and pulls its answer towards the same probability for every class.
docs/methods.md describes benefit and cost. Optionally, the authorized answer is held
close to that of a plain model.
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
    """The loss that lock training adds, and what it needs besides the model.

    Attributes:
        spec: The recipe's [lock] section.
        subkeys: The subkeys of the model; every other key is drawn from them, so that
            the same run draws the same ones and nobody else can.
        derive: A function from a key's subkeys to its transforms of the model.
        normalization: The model's mean and std.
        device: The device to compute on.
        teacher: The plain model whose answers to keep; None for none.
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
        """Return the addition to the task's loss in one step.

        Parts without weight are not computed.

        Args:
            model: The model, in train mode.
            images: The images of the step.
            authorized: The model's logits under the correct key.
            step: Its number, which decides the kind of unauthorized user.

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
        """Return the condition of the unauthorized user in a step."""
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
    """Return how far an answer is from equal probabilities of all classes; nats.

    The divergence of the model's distribution from the uniform one, mean over pixels.
    It is 0 for the useless answer and at most log(classes).
    """
    logs = logits.float().log_softmax(1)
    entropy = -(logs.exp() * logs).sum(1)
    classes = torch.tensor(float(logits.shape[1]), device=logits.device)
    return (classes.log() - entropy).mean()


def apart(logits: Tensor, taught: Tensor) -> Tensor:
    """Return how far one answer is from another; nats, mean over pixels."""
    pointwise = F.kl_div(
        logits.float().log_softmax(1),
        taught.float().log_softmax(1),
        reduction="none",
        log_target=True,
    )
    return pointwise.sum(1).mean()


@contextmanager
def frozen_statistics(model: nn.Module, *, frozen: bool) -> Iterator[None]:
    """Let batch norms use their running statistics without changing them.

    Otherwise useless answers would be learned for the statistics of a batch of
    unauthorized images, and the running ones would mix both kinds.
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
