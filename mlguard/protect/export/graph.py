"""Step 6: export a model as an ONNX graph, with open permutations of feature maps."""

import re
import warnings
from collections.abc import Sequence

import onnx
import torch
from torch import nn
from torch.export import Dim

from mlguard.bundle import FeatureMapFacts
from mlguard.errors import ParityError
from mlguard.protect.export.light import LightGraph, light_graph
from mlguard.protect.export.slot_folding import into_weights
from mlguard.protect.export.slots import WithSlots, empty_slots, example_slots

INPUT, OUTPUT = "pixels", "logits"
EXAMPLE = (2, 3, 64, 96)  # neither 0 nor 1 is traced as a constant, nor H as W
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # columns of a terminal


def export_graph(
    model: nn.Module, opset: int, feature_maps: Sequence[FeatureMapFacts] = ()
) -> onnx.ModelProto:
    """Export a model with free N, H and W, its key slots empty.

    Args and raises: as in `export_light`.
    """
    light = export_light(model, opset, feature_maps)
    close_slots(light.graph, feature_maps)
    return light.to_proto()


def close_slots(
    graph: onnx.ModelProto, feature_maps: Sequence[FeatureMapFacts]
) -> None:
    """Turn the inputs that permute feature maps into key slots, in place."""
    empty_slots(graph, list(example_slots(feature_maps)))
    into_weights(graph, [one.layer for one in feature_maps])


def export_open_graph(
    model: nn.Module, opset: int, feature_maps: Sequence[FeatureMapFacts] = ()
) -> onnx.ModelProto:
    """Export a model as `export_light`, with its weights in the graph."""
    return export_light(model, opset, feature_maps).to_proto()


def export_light(
    model: nn.Module, opset: int, feature_maps: Sequence[FeatureMapFacts] = ()
) -> LightGraph:
    """Export a model with free N, H and W, and remove the exporter's traces.

    The permutations of feature maps are inputs of the graph. Its weights are those of
    the model, or of layers that the exporter joined; none is copied.

    Args:
        model: A model in eval mode, on the CPU, without any key.
        opset: The operator set.
        feature_maps: The feature maps that get key slots.

    Raises:
        ParityError: torch cannot export the model, or not as valid ONNX.
        BundleError: The graph is too large for a bundle.
    """
    sizes = {0: Dim("N"), 2: Dim("H"), 3: Dim("W")}
    slots = example_slots(feature_maps)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns about torch
            program = torch.onnx.export(
                WithSlots(model, feature_maps).eval(),
                (torch.rand(EXAMPLE), list(slots.values())),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT, *slots],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: sizes, "slots": [None] * len(slots)},
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ParityError(f"torch cannot export the model: {cause_of(error)}") from None
    if program is None:
        raise ParityError("torch returned no graph")
    light = light_graph(program)
    _check(light)
    return light


def _check(light: LightGraph) -> None:
    content = light.without_data()  # not left to the checker: it does not refuse it
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ParityError(f"torch exported invalid ONNX: {reason}") from None


def cause_of(error: BaseException, *, limit: int = 300) -> str:
    """Return the cause of an error, in one printable line.

    torch's exporter itself only says that it failed; its cause says why.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in COLOURS.sub("", str(error)).splitlines()]
    text = next((line for line in lines if line), type(error).__name__)
    return "".join(c for c in text if c.isprintable())[:limit]
