"""Step 6: fewer bits for the numbers of a model, and what that costs.

onnxruntime's own tools round, in memory: no plain model touches a disk. The cost is
measured with the recipe's data and recorded in the manifest; it has no limit.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from mlguard.bundle import PrecisionFacts
from mlguard.data import LabelledSet, Part
from mlguard.engine import ORT_ERRORS, onnxruntime
from mlguard.errors import ParityError
from mlguard.foreign import scrub
from mlguard.models import Normalization, keyed
from mlguard.protect.evaluate import batches
from mlguard.protect.export.graph import INPUT
from mlguard.protect.export.light import serialized
from mlguard.runtime import Session
from mlguard.transforms import TransformSet, pad_to_blocks

Kind = Literal["fp16", "int8"]
Pixels = Iterable[NDArray[np.float32]]

CALIBRATION_IMAGES = 64  # whose values say which range 8 bits have to cover
SCORED_IMAGES = 500  # at most, evenly out of the test images
BATCH = 8  # images at a time
INVALID = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
DECIMALS = 4  # of shares and scores in the manifest


@dataclass(frozen=True)
class Rounding:
    """How to round a model, and the images to measure the cost on.

    Attributes:
        kind: fp16 halves the size of weights and activations; int8 quarters it.
        calibration: Training images, which only int8 needs.
        scored: Images that the model was not trained on.
    """

    kind: Kind
    calibration: LabelledSet
    scored: LabelledSet

    def pixels(
        self, transforms: TransformSet, normalization: Normalization
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the calibration images as the model takes them, one at a time.

        Shape:
            yields  (1, 3, H, W) float32
        """
        prepared = keyed(transforms)
        for images, _ in islice(batches(self.calibration, 1), CALIBRATION_IMAGES):
            block = transforms.block_size
            padded = torch.from_numpy(pad_to_blocks(images.numpy(), block))
            yield normalization(prepared.image(padded)).numpy()


def rounded(graph: ModelProto, kind: Kind, pixels: Pixels) -> ModelProto:
    """Return a model with fewer bits, whose inputs and outputs stay float32.

    Args:
        graph: A graph with one input and its weights inside; it is not changed.
        kind: The kind of rounding.
        pixels: The calibration pixels: (1, 3, H, W) each, transformed and normalized.

    Raises:
        ParityError: onnxruntime's tools cannot round it, or their result does not run.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel

    try:
        made = _half(graph) if kind == "fp16" else _byte(graph, pixels)
        ONNXModel(made).topological_sort()  # neither tool leaves nodes in order
        onnx.checker.check_model(serialized(made), full_check=True)
    except (*ORT_ERRORS, *INVALID, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ParityError(f"the model cannot be rounded to {kind}: {reason}") from None
    return scrub(made)


def cost_of(
    kind: Kind, before: Session, after: Session, images: LabelledSet
) -> PrecisionFacts:
    """Return the cost of rounding: predictions that changed, and the score.

    Args:
        kind: How it was rounded.
        before: The model as it was trained.
        after: Rounded.
        images: Of the recipe's data, not seen in training.
    """
    same = total = 0
    counts: dict[str, list[NDArray[np.int64]]] = {"before": [], "after": []}
    step = -(-len(images) // SCORED_IMAGES)
    chosen = Part(images, range(0, len(images), step))
    for given, truth in batches(chosen, BATCH):
        answers = {
            "before": before.predict(given.numpy()),
            "after": after.predict(given.numpy()),
        }
        for side, classes in answers.items():
            counts[side].append(images.task.count(classes, truth.numpy()))
        same += int((answers["before"] == answers["after"]).sum())
        total += answers["before"].size
    scores = {
        side: images.task.score_of(np.concatenate(parts))
        for side, parts in counts.items()
    }
    return PrecisionFacts(
        kind=kind,
        images=len(chosen),
        agreement=round(same / total, DECIMALS),
        before=_share(scores["before"]),
        after=_share(scores["after"]),
    )


def _share(score: float) -> float | None:
    """Return a score for the manifest; None if nothing was scored."""
    return None if np.isnan(score) else round(score, DECIMALS)


def _half(graph: ModelProto) -> ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copied = ModelProto()
    copied.CopyFrom(graph)
    made: ModelProto = convert_float_to_float16(copied, keep_io_types=True)
    return made


def _byte(graph: ModelProto, pixels: Pixels) -> ModelProto:
    """Quantize weights per channel and activations to 8 bits, in the usual operators.

    Weights use 7 of their bits: with 8, sums saturate on processors without VNNI, and
    one bundle would give other masks on other machines.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry

    copied = onnx.shape_inference.infer_shapes(graph)
    quantizer = QDQQuantizer(
        copied,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, _ranges(copied, pixels)),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=[*QDQRegistry],
        extra_options={},
    )
    with _without_a_word():
        quantizer.quantize_model()
    made: ModelProto = quantizer.model.model
    return made


@contextmanager
def _without_a_word() -> Iterator[None]:
    """Hide the tool's log; operators that it cannot round are left unchanged."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _ranges(
    graph: ModelProto, pixels: Pixels
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the smallest and largest value of every tensor that the model computes.

    onnxruntime's own calibration does the same, through files in a temporary folder.
    """
    floats = [
        one.name
        for one in graph.graph.value_info
        if one.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    open_graph = ModelProto()
    open_graph.CopyFrom(graph)
    given = {one.name for one in graph.graph.output}
    for name in floats:
        if name not in given:
            shown = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            open_graph.graph.output.append(shown)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(0)
    session = onnxruntime.InferenceSession(
        serialized(open_graph), options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_outputs()]
    found: dict[str, tuple[Any, Any]] = {}
    for image in pixels:
        values = dict(zip(names, session.run(names, {INPUT: image}), strict=True))
        for name, value in {**values, INPUT: image}.items():
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = min(low, value.min()), max(high, value.max())
    return {
        name: (np.array([low], np.float32), np.array([high], np.float32))
        for name, (low, high) in found.items()
    }
