"""A model that is ready to run on images. Needs torch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import RLock

import torch
from torch import Tensor, nn

from mlguard import recipe
from mlguard.audit.findings import Engine
from mlguard.audit.target.graph import ModelGraph
from mlguard.bundle import FeatureMapFacts
from mlguard.errors import MlguardError
from mlguard.models import (
    Condition,
    Normalization,
    Output,
    feature_channels,
    normalization_of,
    output_of,
)
from mlguard.models.split import Sliced
from mlguard.protect.run_folder import Run

# torch changes feature maps by hooks, which calls from other threads would meet.
HOOKS = RLock()


@dataclass(frozen=True)
class Subject:
    """A model in eval mode on its device, and how its images are normalized.

    Attributes:
        model: The model.
        normalization: Of its images.
        device: Where it is.
        graph: The same for onnxruntime; None where torch runs it.
    """

    model: nn.Module
    normalization: Normalization
    device: torch.device
    graph: ModelGraph | None = field(default=None, kw_only=True)

    @classmethod
    def load(cls, run: Run, device: torch.device) -> "Subject":
        """Load the model of a run.

        Raises:
            MalformedRun: The weights are missing, damaged or of another model.
        """
        normalization = normalization_of(run.recipe.model)
        return cls(run.load_model().to(device), normalization, device)

    def of_host(self, *, seed: int) -> "Subject":
        """What a host has of the model: of one in two halves the public one alone.

        Args:
            seed: Of what stands in for the private half.
        """
        if not isinstance(self.model, Sliced):
            return self
        return Subject(self.model.of_host(seed=seed), self.normalization, self.device)

    def copy(self, *, learns: bool = False) -> "Subject":
        """Return a copy to train, or to train an adapter on; the original is kept.

        Args:
            learns: Whether its weights and statistics are learned; if not, it is fixed.
        """
        model = copy.deepcopy(self.model).train(learns).requires_grad_(learns)
        return Subject(model, self.normalization, self.device)

    @property
    def engine(self) -> Engine:
        """What runs the model."""
        return "torch" if self.graph is None else "onnxruntime"

    @property
    def at_once(self) -> int:
        """How many threads may `run` the model at the same time, and should."""
        return 1 if self.graph is None else self.graph.at_once

    def in_graph(self, spec: recipe.Transform, size: tuple[int, int]) -> "Subject":
        """The same model, run by onnxruntime where that can be.

        Args:
            spec: What the key does.
            size: Height and width of an image, in pixels.

        Returns:
            This one, if it is run by onnxruntime already, is on a GPU, or has no graph
            that gives the same.
        """
        if self.engine == "onnxruntime" or self.device.type != "cpu":
            return self
        maps = [
            FeatureMapFacts(layer=layer, channels=number, signs=spec.signs)
            for layer, number in self.channels(spec.layers, size).items()
        ]
        try:
            graph = ModelGraph(self.model, self.normalization, maps, size)
        except MlguardError:  # whatever it is that the exporter or onnxruntime refuses
            return self
        return replace(self, graph=graph)

    def run(self, images: Tensor, condition: Condition) -> Output:
        """Run the model under a condition, by the faster engine that can.

        Shape:
            images   (N, 3, H, W) uint8, on the device
            returns  logits, or torchvision's {"out": logits, …}
        """
        if self.graph is not None and self.graph.takes(condition):
            return self.graph.logits(images, condition)
        with HOOKS:
            return self.run_watched(images, condition)

    def run_watched(self, images: Tensor, condition: Condition) -> Output:
        """The same where hooks on the model's layers are to see what they get."""
        return output_of(self.model, images, condition, self.normalization)

    def channels(self, layers: Sequence[str], size: tuple[int, int]) -> dict[str, int]:
        """Return how many channels the outputs of layers have.

        Args:
            layers: Their names.
            size: Height and width of an image, in pixels.
        """
        return feature_channels(self.model, layers, size)
