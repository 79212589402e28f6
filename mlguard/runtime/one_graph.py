"""Join preprocessing, the model, and the choice of the class into one graph.

Before the model come the keyed transform and the normalization. After it comes the
class of every pixel or image, in the smallest type that holds it, so that scores leave
onnxruntime only on request. One graph has one pool of threads, and no tensor is copied
between two sessions. Both formats of bundles pass through here.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import ImageFacts, TaskFacts
from mlguard.rules import BYTE_MAX
from mlguard.runtime import wire
from mlguard.runtime.types import (
    BFLOAT16,
    DOUBLE,
    FLOAT,
    FLOAT16,
    INT64,
    UINT8,
    UINT16,
)

PREFIX = "mlguard/"  # prefix of every name that is added
IMAGES = PREFIX + "images"
VALUES = PREFIX + "values"  # the integers of the keyed transform, for the self-test
SCORES, CLASSES = PREFIX + "scores", PREFIX + "classes"
OWN_OPSET = 17  # for a model that uses no operator of the default domain
ENLARGED_SINCE = 13  # the first opset with Resize as it is used here
MAX_BYTE_CLASSES = 256
FLOATS = (FLOAT, FLOAT16, BFLOAT16, DOUBLE)


@dataclass(frozen=True)
class Parts:
    """The parts of one graph.

    Attributes:
        model: The model as ONNX, with or without weights and key material.
        image: Which input is an image; None to keep all inputs as they are.
        task: What the answer means; None to keep the outputs as they are.
        input_type: ONNX's number of the image input's type.
        output_type: The same for the task's output.
        preprocess: The keyed transform as ONNX; None to build preprocessing from
            `image`.
        opset: The default domain's version; 0 if the model uses none of its operators.
    """

    model: bytes = field(repr=False)
    image: ImageFacts | None
    task: TaskFacts | None
    input_type: int = FLOAT
    output_type: int = FLOAT
    preprocess: bytes | None = field(default=None, repr=False)
    opset: int = OWN_OPSET


@dataclass(frozen=True)
class OneGraph:
    """One graph, and the names of its added tensors.

    Attributes:
        content: The graph as ONNX.
        classes: The output with the classes; None if there is no such task.
        scores: The output with the scores behind them.
        slots: The name in this graph of each initializer of the preprocess graph.
    """

    content: bytes = field(repr=False)
    classes: str | None
    scores: str | None
    slots: dict[str, str]


def join(parts: Parts) -> OneGraph:
    """Join the parts to one graph.

    Raises:
        ValueError: A part is not ONNX; `check_graph` refuses such parts before.
    """
    head, slots = b"", dict[str, str]()
    if parts.image is not None and parts.preprocess is not None:
        head, slots = _keyed_head(parts.preprocess, parts.image)
    elif parts.image is not None:
        head = _plain_head(parts.image, parts.input_type)
    tail, classes, scores = _tail(parts)
    replaced = None if parts.image is None else parts.image.input
    content = _joined(parts, head, tail, replaced)
    return OneGraph(content, classes, scores, slots)


def _joined(parts: Parts, head: bytes, tail: bytes, replaced: str | None) -> bytes:
    """Return the model's file with fields added before and after those of its graph."""
    if not head and not tail:
        return parts.model
    chunks: list[bytes | memoryview] = []
    for number, value, whole in wire.fields(memoryview(parts.model)):
        if number != wire.MODEL_GRAPH or isinstance(value, int):
            chunks.append(whole)
            continue
        # Without the input that the head computes; everything else is kept.
        kept = [
            piece
            for found, inner, piece in wire.fields(value)
            if not (
                found == wire.GRAPH_INPUT
                and not isinstance(inner, int)
                and wire.named(inner, wire.VALUE_NAME) == replaced
            )
        ]
        size = len(head) + len(tail) + sum(map(len, kept))
        chunks += [wire.header(wire.MODEL_GRAPH, size), head, *kept, tail]
    if not parts.opset:
        chunks.append(wire.opset("", OWN_OPSET))
    return b"".join(chunks)


def _keyed_head(preprocess: bytes, image: ImageFacts) -> tuple[bytes, dict[str, str]]:
    """Return the preprocess graph under new names, ending in the model's input."""
    for number, value, _ in wire.fields(memoryview(preprocess)):
        if number == wire.MODEL_GRAPH and not isinstance(value, int):
            graph = value
    names = _Renamed(
        {"images": IMAGES, "pixels": image.input, "values": VALUES, "": ""}
    )
    slots, parts = dict[str, str](), []
    for number, inner, _ in wire.fields(graph):
        if isinstance(inner, int):
            continue
        if number == wire.GRAPH_NODE:
            named = (wire.NODE_INPUT, wire.NODE_OUTPUT, wire.NODE_NAME)
            parts.append(
                wire.message(number, wire.renamed(inner, named, names.__getitem__))
            )
        elif number == wire.GRAPH_INITIALIZER:
            old = wire.named(inner, wire.TENSOR_NAME)
            slots[old] = names[old]
            content = wire.renamed(inner, (wire.TENSOR_NAME,), names.__getitem__)
            parts.append(wire.message(number, content))
    parts.append(_given(image))
    parts.append(wire.value(wire.GRAPH_OUTPUT, VALUES, FLOAT))
    return b"".join(parts), slots


class _Renamed(dict[str, str]):
    """New names for any old names."""

    def __missing__(self, old: str) -> str:
        return f"{PREFIX}pre/{old}"


def _plain_head(image: ImageFacts, kind: int) -> bytes:
    """Return the nodes from 8-bit pixels (N, C, …) to the model's input."""
    axes = len(image.size)
    per_channel = (-1,) + (1,) * axes
    low, high = image.range
    std = np.array(image.std, np.float64)
    scale = ((high - low) / BYTE_MAX / std).astype(np.float32).reshape(per_channel)
    shift = ((low - np.array(image.mean, np.float64)) / std).astype(np.float32)
    shift = shift.reshape(per_channel)
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    constants = []

    def add(operator: str, value: NDArray[np.float32]) -> None:
        name = f"{PREFIX}{operator.lower()}"
        constants.append(wire.constant(name, value, FLOAT))
        steps.append((operator, [name], {}))

    steps.append(("Cast", [], {"to": FLOAT}))
    if (scale != 1).any():
        add("Mul", scale)
    if shift.any():
        add("Add", shift)
    if image.layout.endswith("C"):
        order = [0, *range(2, axes + 2), 1]
        steps.append(("Transpose", [], {"perm": order}))
    if kind != FLOAT:
        steps.append(("Cast", [], {"to": kind}))
    nodes, before = [], IMAGES
    for number, (operator, more, options) in enumerate(steps):
        last = number == len(steps) - 1
        after = image.input if last else f"{PREFIX}step{number}"
        nodes.append(wire.node(operator, [before, *more], after, **options))
        before = after
    return b"".join([*nodes, *constants, _given(image)])


def _given(image: ImageFacts) -> bytes:
    """Return the graph's input of 8-bit pixels, (N, C, …)."""
    free = [f"{PREFIX}side{number}" for number in range(len(image.size))]
    sides = free if image.resize.rule == "pad" else list(image.size)
    shape = [f"{PREFIX}count", image.channels, *sides]
    return wire.value(wire.GRAPH_INPUT, IMAGES, UINT8, shape)


def _tail(parts: Parts) -> tuple[bytes, str | None, str | None]:
    """Return the nodes from scores to classes, and the names of classes and scores."""
    task = parts.task
    if task is None or task.name == "detection":
        return b"", None, None
    scores, nodes = task.output, []
    outputs = []
    if parts.output_type not in FLOATS or (task.stride > 1 and not _enlarges(parts)):
        return b"", None, task.output
    if parts.output_type != FLOAT:  # onnxruntime has no ArgMax for them
        nodes.append(wire.node("Cast", [scores], f"{PREFIX}float", to=FLOAT))
        scores = f"{PREFIX}float"
    axis = class_axis(parts.image, task)
    if task.stride > 1:
        nodes += _enlarged(scores, task.stride, parts.image)
        scores = SCORES
        outputs.append(wire.value(wire.GRAPH_OUTPUT, SCORES, FLOAT))
    found = f"{PREFIX}found"
    kind = smallest(task)
    last = CLASSES if kind == INT64 else found
    nodes.append(wire.node("ArgMax", [scores], last, axis=axis, keepdims=0))
    if kind != INT64:
        nodes.append(wire.node("Cast", [found], CLASSES, to=kind))
    outputs.append(wire.value(wire.GRAPH_OUTPUT, CLASSES, kind))
    if scores != SCORES:
        scores = task.output  # as the model gives it
    return b"".join([*nodes, *outputs]), CLASSES, scores


def _enlarges(parts: Parts) -> bool:
    return parts.image is not None and (parts.opset or OWN_OPSET) >= ENLARGED_SINCE


def _enlarged(scores: str, stride: int, image: ImageFacts | None) -> list[bytes]:
    """Resize scores to the size of the image, bilinearly, with pixels as areas."""
    sides = 2 if image is None else len(image.size)
    last = image is not None and image.layout.endswith("C")
    factors = [stride] * sides
    scales = [1, *factors, 1] if last else [1, 1, *factors]
    name = f"{PREFIX}scales"
    value = np.array(scales, np.float32)
    return [
        wire.constant(name, value, FLOAT),
        wire.node("Resize", [scores, "", name], SCORES, mode="linear"),
    ]


def class_axis(image: ImageFacts | None, task: TaskFacts) -> int:
    """Return the axis of the scores that counts classes."""
    last = image is not None and image.layout.endswith("C")
    return -1 if last and task.name == "segmentation" else 1


def misfit_of(shape: tuple[int, ...], image: ImageFacts, task: TaskFacts) -> str | None:
    """Return what is wrong with the shape of scores, if anything is.

    Args:
        shape: The shape of the scores; -1 stands for any size.
        image: The image that they belong to.
        task: Their meaning.
    """
    axes = 2 if task.name == "classification" else 2 + len(image.size)
    classes = len(task.class_names)
    if len(shape) == axes and shape[class_axis(image, task)] in (-1, classes):
        return None
    return (
        f"{task.output!r} has the shape {list(shape)}, but a {task.name} of {classes} "
        f"classes needs {axes} axes with {classes} scores"
    )


def smallest(task: TaskFacts) -> int:
    """Return the type of the classes: the smallest for masks, int64 for images."""
    if task.name == "classification":
        return INT64
    return UINT8 if len(task.class_names) <= MAX_BYTE_CLASSES else UINT16
