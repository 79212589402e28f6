"""Run the graphs of a bundle with any values in their key slots, without torch.

An adversary with the file and no key can fill the slots as he likes. This module does
so, so that an audit can measure the result. Nothing is checked against a key, and
nothing shows who wrote the file: users of a model take `Session`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import Bundle
from mlguard.engine import onnxruntime
from mlguard.errors import BundleError
from mlguard.rules import BYTE_MAX
from mlguard.runtime.providers import LOGITS, PIXELS, load_graph, run_graph
from mlguard.transforms import ChannelPermutation, Transform, TransformSet

Channels = tuple[ChannelPermutation, ...]


class Graphs:
    """The two graphs of a bundle, which run with any transforms.

    A graph with key slots is loaded anew for other transforms; the last one is kept.

    Args:
        bundle: The bundle, not sealed.
        provider: As in `Session.open`.
        threads: How many threads onnxruntime uses; 0 for its own choice.

    Raises:
        BundleError: The bundle is sealed.

    Example:
        graphs = Graphs(read_bundle(Path("acme.mlgb")))
        logits = graphs.logits(graphs.plain(images))  # what no key gives
    """

    def __init__(
        self, bundle: Bundle, *, provider: str = "cpu", threads: int = 0
    ) -> None:
        if bundle.sealed:
            raise BundleError(
                f"{bundle.name}: the model is sealed; without its key it cannot run",
                hint="Session.open runs it with its key",
            )
        self.bundle = bundle
        self._provider, self._threads = provider, threads
        self._preprocess: tuple[Transform | None, onnxruntime.InferenceSession] | None
        self._model: tuple[Channels, onnxruntime.InferenceSession] | None
        self._preprocess = self._model = None

    def plain(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return images as the model takes them, normalized and not transformed.

        Shape:
            images   (N, 3, H, W) uint8, RGB
            returns  (N, 3, H, W) float32
        """
        given = self.bundle.manifest.normalization
        mean, std = (
            np.array(numbers, dtype=np.float32).reshape(3, 1, 1)
            for numbers in (given.mean, given.std)
        )
        fractions = images.astype(np.float32) / np.float32(BYTE_MAX)
        normalized: NDArray[np.float32] = (fractions - mean) / std
        return normalized

    def takes(self, transform: Transform | None) -> bool:
        """Whether preprocess.onnx, with its slots filled, computes a transform."""
        own = self.bundle.manifest.transform
        if transform is None:
            return not own.methods
        name, size = "+".join(own.methods), own.block_size
        return (transform.name, transform.block_size) == (name, size)

    def pixels(
        self, images: NDArray[np.uint8], transform: Transform | None
    ) -> NDArray[np.float32]:
        """Run preprocess.onnx with a transform in its key slots.

        Args:
            images: Images whose height and width the block size divides.
            transform: The transform that fills the slots; None if the key does not act
                on images.

        Shape:
            images   (N, 3, H, W) uint8, RGB
            returns  (N, 3, H, W) float32, transformed and normalized

        Raises:
            ValueError: The transform has other methods or another block size.
            MalformedBundle: onnxruntime cannot load the graph.
            ProviderError: The provider is not available, or failed.
        """
        if not self.takes(transform):
            own = self.bundle.manifest.transform
            methods = " + ".join(own.methods) or "no method"
            raise ValueError(f"expected a transform of {methods}, M = {own.block_size}")
        if self._preprocess is None or self._preprocess[0] is not transform:
            slots = {} if transform is None else transform.slots()
            loaded = self._load(self.bundle.preprocess, "preprocess.onnx", slots)
            self._preprocess = transform, loaded
        return run_graph(self._preprocess[1], PIXELS, images)

    def logits(
        self, pixels: NDArray[np.float32], channels: Channels = ()
    ) -> NDArray[np.float32]:
        """Run model.onnx.

        Args:
            pixels: Normalized pixels.
            channels: The permutations that fill its key slots. The slots of other
                layers get the identity, so that their feature maps do not change.

        Shape:
            pixels   (N, 3, H, W) float32
            returns  (N, classes, H, W) float32, or (N, classes)

        Raises:
            ValueError: The model has no key slot for a layer.
            MalformedBundle: onnxruntime cannot load the graph.
            ProviderError: The provider is not available, or failed.
        """
        if self._model is None or self._model[0] != channels:
            slots = self._channel_slots(channels)
            self._model = channels, self._load(self.bundle.model, "model.onnx", slots)
        return run_graph(self._model[1], LOGITS, pixels)

    def _channel_slots(
        self, channels: Sequence[ChannelPermutation]
    ) -> dict[str, NDArray[Any]]:
        maps = self.bundle.manifest.feature_maps
        identity = tuple(
            ChannelPermutation(
                one.layer,
                np.arange(one.channels),
                np.ones(one.channels, dtype=np.float32) if one.signs else None,
            )
            for one in maps
        )
        empty = TransformSet(None, identity).channel_slots()
        filled = TransformSet(None, tuple(channels)).channel_slots()
        if strays := sorted(set(filled) - set(empty)):
            raise ValueError(f"model.onnx has no key slot {strays[0]}")
        return empty | filled

    def _load(
        self, graph: bytes, name: str, slots: dict[str, NDArray[Any]]
    ) -> onnxruntime.InferenceSession:
        return load_graph(
            graph,
            provider=self._provider,
            name=f"{self.bundle.name}: {name}",
            slots=slots,
            threads=self._threads,
        )
