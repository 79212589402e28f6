"""The model of a run folder as a graph that onnxruntime runs. Needs torch.

A score needs no gradient, and onnxruntime takes less time than torch for the same
numbers. Permutations of feature maps are inputs of the graph, so that one session
serves every key. torch does what a graph cannot do.
"""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlguard.bundle import FeatureMapFacts
from mlguard.errors import ParityError
from mlguard.models import NO_KEY, Condition, Normalization, logits_of, output_of
from mlguard.protect.export import (
    MAX_DIFFERENCE,
    REFUSALS,
    WithSlots,
    example_images,
    example_slots,
    export_open_graph,
    serialized,
)
from mlguard.runtime import Compute
from mlguard.runtime.providers import LOGITS, PIXELS, Outside, load, run_feeds
from mlguard.transforms import ChannelPermutation, TransformSet

OPSET = 20
TRACED = 2  # images that are shown to the tracing exporter
EXAMPLES = 3  # images on which graph and model are compared; another number


class ModelGraph:
    """A model without any key, run by onnxruntime in one thread for each call.

    Several threads may call it at once, as many as torch has: the layers of a small
    model are too short to be shared by them.

    Attributes:
        at_once: How many calls at a time fill the processor.
    """

    def __init__(
        self,
        model: nn.Module,
        normalization: Normalization,
        feature_maps: Sequence[FeatureMapFacts],
        size: tuple[int, int],
    ) -> None:
        """Export a model, and compare the graph with it.

        Args:
            model: A model in eval mode, on the CPU.
            normalization: The normalization of its images.
            feature_maps: Those that a key permutes.
            size: Height and width of an image to compare on, in pixels.

        Raises:
            ParityError: torch cannot export the model, or the graph's logits differ.
            BundleError: The graph is larger than 2 GiB, or onnxruntime cannot load it.
            ProviderError: onnxruntime is too old for the graph.
        """
        graph = _traced(model, feature_maps, size)
        if graph is None:
            graph = serialized(export_open_graph(model, OPSET, feature_maps))
        self.at_once = torch.get_num_threads()
        compute = Compute("cpu", threads=1)
        self._session = load(graph, compute, Outside(), name="the model's graph")
        self._normalization = normalization
        slots = example_slots(feature_maps)
        self._identity = {name: slot.numpy() for name, slot in slots.items()}
        self._compare(model, size)

    def takes(self, condition: Condition) -> bool:
        """Whether a condition permutes feature maps as a key does, and no more."""
        if condition.passports:
            return False
        slots = _slots(condition)
        return set(slots) <= set(self._identity) and set(condition.features) == {
            one.layer for one in _channels(condition)
        }

    def logits(self, images: Tensor, condition: Condition) -> Tensor:
        """Run the model under a condition that it takes.

        Shape:
            images   (N, 3, H, W) uint8
            returns  (N, classes, H, W) float32, or (N, classes)

        Raises:
            ProviderError: onnxruntime failed, usually for lack of memory.
        """
        pixels = self._normalization(condition.image(images)).contiguous().numpy()
        feeds = {PIXELS: pixels, **self._identity, **_slots(condition)}
        (logits,) = run_feeds(self._session, [LOGITS], feeds)
        return torch.from_numpy(logits)

    def _compare(self, model: nn.Module, size: tuple[int, int]) -> None:
        images = torch.from_numpy(example_images((EXAMPLES, 3, *size), seed=0))
        with torch.inference_mode():
            output = output_of(model, images, NO_KEY, self._normalization)
        expected = logits_of(output)
        found = self.logits(images, NO_KEY)
        same = expected.shape == found.shape
        limit = MAX_DIFFERENCE * float(expected.abs().max())
        # Not `difference > limit`: NaN must be refused too.
        if not (same and float((found - expected).abs().max()) <= limit):
            raise ParityError("the exported graph gives other logits than the model")


def _traced(
    model: nn.Module, feature_maps: Sequence[FeatureMapFacts], size: tuple[int, int]
) -> bytes | None:
    """The graph of the calls that a model makes, in a tenth of a second.

    None if what it does may depend on the values of its images, if it is larger than
    2 GiB, or has no graph; the exporter of bundles, which takes seconds, may make one.
    """
    slots, buffer = example_slots(feature_maps), io.BytesIO()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.onnx.export(
                WithSlots(model, feature_maps).eval(),
                (torch.zeros(TRACED, 3, *size), list(slots.values())),
                buffer,  # type: ignore[arg-type]  # no file: it is the model
                dynamo=False,
                opset_version=OPSET,
                input_names=[PIXELS, *slots],
                output_names=[LOGITS],
                dynamic_axes={PIXELS: {0: "N"}, LOGITS: {0: "N"}},
            )
    except REFUSALS:
        return None
    kinds = (one.category for one in said)
    if torch.jit.TracerWarning in kinds:  # type: ignore[attr-defined]
        return None
    return buffer.getvalue()


def _channels(condition: Condition) -> Sequence[ChannelPermutation]:
    return () if condition.transforms is None else condition.transforms.channels


def _slots(condition: Condition) -> dict[str, NDArray[Any]]:
    return TransformSet(None, tuple(_channels(condition))).channel_slots()
