"""Step 6: what an export needs of a model, so that the model can go.

Its logits on the images of the comparison, and its graph. Whoever has both lets go of
the model before anything is serialized, sealed or run: a large one is not there twice.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mlguard.bundle import FeatureMapFacts
from mlguard.models import Normalization
from mlguard.protect.export.graph import export_light
from mlguard.protect.export.light import LightGraph
from mlguard.protect.export.parity import Expected, expected_logits
from mlguard.transforms import TransformSet


@dataclass(frozen=True)
class Traced:
    """A model as its export needs it.

    Attributes:
        graph: Its graph, the permutations of feature maps inputs, its weights beside.
        expected: What it answers to the images of the comparison.
    """

    graph: LightGraph
    expected: Expected


def trace(
    model: nn.Module,
    transforms: TransformSet,
    normalization: Normalization,
    *,
    opset: int,
    feature_maps: Sequence[FeatureMapFacts],
) -> Traced:
    """Let a model answer, and export it.

    Args:
        model: A model in eval mode, on the CPU, without any key.
        transforms: The transforms of its key.
        normalization: The normalization of its images.
        opset: The operator set.
        feature_maps: The feature maps that get key slots.

    Raises:
        ParityError: torch cannot export the model, or not as valid ONNX.
    """
    expected = expected_logits(model, transforms, normalization)
    graph = export_light(model, opset, feature_maps)
    gc.collect()  # what the exporter made refers to itself and to the model
    return Traced(graph, expected)
