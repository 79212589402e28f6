"""The terms of a training: a key and all that follows from it, or no key."""

from dataclasses import dataclass, field

import torch

from mlguard.keys import ModelKey, ModelSubkeys, TrainingSecret
from mlguard.models import NO_KEY, Condition, keyed
from mlguard.protect.run_folder import RUN, TWIN, Keeper, Protection
from mlguard.protect.training.lock_loss import LockLoss
from mlguard.transforms import TransformSet


@dataclass(frozen=True)
class Terms:
    """The terms of a training: a key, or no key.

    Attributes:
        key: The key that the run draws from; None to draw from the operating system.
        protection: Which key the model needs; None for a plain one.
        proving: The subkeys of the run's proof; None for a plain run that is not a
            twin.
        transforms: The key's transforms.
        lock: The loss that lock training adds.
    """

    key: ModelKey | None = None
    protection: Protection | None = None
    proving: ModelSubkeys | None = None
    transforms: TransformSet = field(default_factory=TransformSet)
    lock: LockLoss | None = None

    def keeper(self, secret: TrainingSecret, *, seals: bool) -> Keeper:
        """Return the keeper that authenticates the state of the unfinished run.

        Args:
            secret: The secret of a run without a key.
            seals: Whether the recipe's method seals weights, which takes a key.
        """
        role = RUN if self.protection is not None else TWIN
        hidden = seals and self.proving is not None
        return Keeper(self.proving or secret, role, hidden)

    def condition(self, device: torch.device) -> Condition:
        """The condition of training: images transformed with the key, or plain."""
        if self.protection is None:
            return NO_KEY
        return keyed(self.transforms, device)
