"""The model of a bundle as a black box, run by onnxruntime. Needs torch.

An open bundle runs with any values in its key slots, a sealed one only with its key.

Images under a key's transform go through the bundle's own preprocess.onnx, with the
transform in its key slots. Other inputs, such as a plain image or another method,
replace the pixels before the model, as a thief would do it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from mlguard.audit.findings import SEALED, Engine
from mlguard.audit.target.subject import Subject
from mlguard.bundle import Bundle
from mlguard.models import Condition, Normalization
from mlguard.runtime import Graphs, Session


class GraphModel(nn.Module):
    """The model graph as the module that attacks expect: pixels in, logits out.

    It has no parameters and no layers; its key slots hold the identity.
    """

    def __init__(self, graphs: Graphs) -> None:
        super().__init__()
        self._graphs = graphs

    def forward(self, pixels: Tensor) -> Tensor:
        """Run the graph. Shape: (N, 3, H, W) to (N, classes, H, W) or (N, classes)."""
        logits = self._graphs.logits(pixels.contiguous().numpy())
        return torch.from_numpy(logits)


@dataclass(frozen=True)
class BlackBox(Subject):
    """A bundle that runs with any values in its key slots."""

    graphs: Graphs

    @classmethod
    def of(cls, bundle: Bundle, *, provider: str) -> Self:
        """Run a bundle that is not sealed, with as many threads as torch.

        Args:
            bundle: The bundle.
            provider: "cpu", "cuda" or "auto".
        """
        threads = torch.get_num_threads()
        graphs = Graphs(bundle, provider=provider, threads=threads)
        given = bundle.manifest.normalization
        normalization = Normalization(given.mean, given.std)
        return cls(
            GraphModel(graphs).eval(), normalization, torch.device("cpu"), graphs
        )

    @property
    def engine(self) -> Engine:
        """What runs the model."""
        return "onnxruntime"

    def channels(self, layers: Sequence[str], size: tuple[int, int]) -> dict[str, int]:
        """Return how many channels the outputs of layers have, from the manifest."""
        maps = self.graphs.bundle.manifest.feature_maps
        return {one.layer: one.channels for one in maps if one.layer in layers}

    def run_watched(self, images: Tensor, condition: Condition) -> Tensor:
        """Run the graph under a condition; it has no layers to watch."""
        transforms = condition.transforms
        if transforms is None and condition.features:
            raise ValueError("a graph only takes permutations of feature maps")
        image = None if transforms is None else transforms.image
        if transforms is not None and self.graphs.takes(image):
            pixels = self.graphs.pixels(images.numpy(), image)
        else:
            normalized = self.normalization(condition.image(images))
            pixels = normalized.contiguous().numpy()
        channels = () if transforms is None else transforms.channels
        return torch.from_numpy(self.graphs.logits(pixels, channels))


class Nothing(nn.Module):
    """A sealed model without its key."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Refuse: no attack is run on a sealed model."""
        raise ValueError(SEALED)


@dataclass(frozen=True)
class Unlocked(Subject):
    """A bundle that only the holder of its key can run, and only as a user does."""

    session: Session

    @classmethod
    def of(cls, session: Session) -> Self:
        """Run a bundle that its key has opened."""
        given = session.image
        if given is None or given.colours != "RGB":
            raise ValueError("a bundle that does not take RGB images cannot be audited")
        mean, std = ((one[0], one[1], one[2]) for one in (given.mean, given.std))
        normalization = Normalization(mean, std)
        return cls(Nothing().eval(), normalization, torch.device("cpu"), session)

    @property
    def engine(self) -> Engine:
        """What runs the model."""
        return "onnxruntime"

    def run_watched(self, images: Tensor, condition: Condition) -> Tensor:
        """Run the bundle as a user does, under the correct key alone."""
        if condition.transforms is None:
            raise ValueError(SEALED)
        return torch.from_numpy(self.session.logits(images.numpy()))
