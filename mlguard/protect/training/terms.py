"""What a model is trained under: a key and all that follows from it, or nothing."""

from dataclasses import dataclass, field

import torch

from mlguard.keys import ModelKey, ModelSubkeys, TrainingSecret
from mlguard.models import NO_KEY, Condition, keyed
from mlguard.protect.run_folder import RUN, TWIN, Keeper, Protection
from mlguard.protect.training.lock_loss import LockLoss
from mlguard.transforms import TransformSet


@dataclass(frozen=True)
class Terms:
    """What a model is trained under: a key, or nothing.

    Attributes:
        key: What the run draws from; None draws from the operating system.
        protection: Which key the model needs; None of a plain one.
        proving: What proves the run; None of a plain run that is nobody's twin.
        transforms: What the key does.
        lock: What lock training adds to the loss.
    """

    key: ModelKey | None = None
    protection: Protection | None = None
    proving: ModelSubkeys | None = None
    transforms: TransformSet = field(default_factory=TransformSet)
    lock: LockLoss | None = None

    def keeper(self, secret: TrainingSecret, *, seals: bool) -> Keeper:
        """What vouches for the state of the run until it is finished.

        Args:
            secret: Of a run without a key.
            seals: Whether the recipe's method seals weights; only a key can.
        """
        role = RUN if self.protection is not None else TWIN
        hidden = seals and self.proving is not None
        return Keeper(self.proving or secret, role, hidden)

    def condition(self, device: torch.device) -> Condition:
        """What the model is shown: images as the key makes them, or as they are."""
        if self.protection is None:
            return NO_KEY
        return keyed(self.transforms, device)
