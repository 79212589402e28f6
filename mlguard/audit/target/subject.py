"""A model that is ready to be shown images. Needs torch."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from mlguard.models import (
    Condition,
    Normalization,
    feature_channels,
    normalization_of,
    output_of,
)
from mlguard.protect.evaluate import Runs
from mlguard.protect.run_folder import Run


@dataclass(frozen=True)
class Subject:
    """A model in eval mode on its device, and how its images are normalized."""

    model: nn.Module
    normalization: Normalization
    device: torch.device

    @classmethod
    def load(cls, run: Run, device: torch.device) -> "Subject":
        """Load the model of a run.

        Raises:
            MalformedRun: The weights are missing, damaged or of another model.
        """
        normalization = normalization_of(run.recipe.model)
        return cls(run.load_model().to(device), normalization, device)

    def copy(self, *, learns: bool = False) -> "Subject":
        """A copy to train, or to train something beside: the original stays as it is.

        Args:
            learns: Whether its weights and statistics are learned; else it is fixed.
        """
        model = copy.deepcopy(self.model).train(learns).requires_grad_(learns)
        return Subject(model, self.normalization, self.device)

    def runs(self, conditions: Iterable[Condition]) -> Runs:
        """What runs the model under conditions.

        Args:
            conditions: All that will be asked for.
        """
        return partial(output_of, self.model, normalization=self.normalization)

    def channels(self, layers: Sequence[str], size: tuple[int, int]) -> dict[str, int]:
        """How many channels the outputs of layers have.

        Args:
            layers: Their names.
            size: Height and width of an image, in pixels.
        """
        return feature_channels(self.model, layers, size)
