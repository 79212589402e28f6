"""Build `preprocess.onnx`: the keyed transform and normalization, without the key.

It is built by hand from standard operators and public facts alone (methods and block
size): this module never has a key, so none can end up in the file. The values that the
key decides are key slots: initializers declared as external data that has no file. The
runtime fills them in memory; without them the graph does not load. This module imports
onnx, so only the export imports this module. docs/spec/transforms-v1.md, section 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from mlguard import rules
from mlguard.rules import IMAGE_METHODS, check_methods
from mlguard.transforms.blocks import CHANNELS, block_length

# The location is not a file: the runtime fills the tensor in memory. Each slot has its
# own, so that runtimes that fill tensors by location can tell them apart.
SLOT_LOCATION = "key-slot-{}"
MIN_OPSET = 18
TABLE_SIZE = rules.BYTE_MAX + 1
BYTE_MAX = np.array(rules.BYTE_MAX, dtype=np.float32)

INPUT = "images"
OUTPUT = "pixels"  # normalized, for the model
VALUES = "values"  # the integers before division, for the self-test


def build_preprocess_graph(
    methods: Sequence[str],
    block_size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    opset: int,
    ir_version: int,
) -> ModelProto:
    """Build the graph that transforms and normalizes images.

    Its key slots have the names, shapes and types of `Transform.slots()`. Height and
    width must be multiples of the block size: the runtime pads.

    Args:
        methods: Names of transforms.METHODS, in the order they are applied; empty to
            leave images alone.
        block_size: M, in pixels.
        mean: The mean of images in [0, 1], one number for each channel.
        std: Their standard deviation, likewise.
        opset: The operator set of the model this graph goes with, at least 18.
        ir_version: The file format version of that model.

    Shape:
        images   (N, 3, H, W) uint8, RGB
        pixels   (N, 3, H, W) float32, transformed and normalized
        values   (N, 3, H, W) float32, the transformed integers before any division

    Raises:
        ValueError: Unknown methods, methods or normalization that do not fit, or an
            opset below 18.
    """
    if opset < MIN_OPSET:
        raise ValueError(f"expected opset {MIN_OPSET} or later, got {opset}")
    graph = _Graph()
    scale = _transformed(graph, methods, block_size)
    fraction = graph.add("Div", VALUES, scale)
    centred = graph.add("Sub", fraction, graph.constant("mean", _channels(mean)))
    graph.add("Div", centred, graph.constant("std", _channels(std)), output=OUTPUT)
    return _model(graph, opset, ir_version)


def empty_slot(name: str, data_type: int, shape: Sequence[int]) -> TensorProto:
    """Return a key slot: an initializer with name, type and shape, and without data."""
    tensor = TensorProto(name=name, data_type=data_type, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=SLOT_LOCATION.format(name))
    return tensor


@dataclass
class _Graph:
    """Nodes and initializers, collected in order."""

    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, output: str = "", **options: Any) -> str:
        """Append a node, and return the name of its output."""
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **options))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Append a public constant, and return its name."""
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def slot(self, name: str, data_type: int, shape: Sequence[int]) -> str:
        """Append a key slot, without data, and return its name."""
        self.initializers.append(empty_slot(name, data_type, shape))
        return name


def _transformed(graph: _Graph, methods: Sequence[str], block_size: int) -> str:
    """Append all nodes up to `values`, and return the name of their scale."""
    if not methods:
        graph.add("Cast", INPUT, to=TensorProto.FLOAT, output=VALUES)
        return graph.constant("scale", BYTE_MAX)
    # CUDA has SpaceToDepth for floating point only, so the cast comes first.
    cast = graph.add("Cast", INPUT, to=TensorProto.FLOAT)
    blocks = graph.add("SpaceToDepth", cast, blocksize=block_size)
    mapped, scale = _mapped(graph, blocks, methods, block_length(block_size))
    graph.add("DepthToSpace", mapped, blocksize=block_size, mode="DCR", output=VALUES)
    return scale


def _mapped(
    graph: _Graph, blocks: str, methods: Sequence[str], length: int
) -> tuple[str, str]:
    """Append the keyed operators, and return the names of their output and scale."""
    check_methods(methods)
    scale = ""
    for method in methods:
        if method == "shf":
            order = graph.slot("shf.order", TensorProto.INT64, [length])
            blocks = graph.add("Gather", blocks, order, axis=1)
        elif method == "np":
            mask = graph.slot("np.mask", TensorProto.BOOL, [length, 1, 1])
            largest = graph.constant("byte_max", BYTE_MAX)
            negative = graph.add("Sub", largest, blocks)
            blocks = graph.add("Where", mask, negative, blocks)
        elif method == "ffx":
            mask = graph.slot("ffx.mask", TensorProto.BOOL, [length, 1, 1])
            table = graph.slot("ffx.table", TensorProto.FLOAT, [TABLE_SIZE])
            # Computed in the graph: a constant scale would reveal something of the
            # table.
            scale = graph.add("ReduceMax", table, keepdims=0)
            blocks = graph.add("Where", mask, _looked_up(graph, table, blocks), blocks)
        elif method == "orthogonal":
            blocks, scale = _mixed(graph, blocks, length)
        else:
            raise ValueError(
                f"expected methods of {', '.join(IMAGE_METHODS)}, got {method}"
            )
    return blocks, scale or graph.constant("scale", BYTE_MAX)


def _mixed(graph: _Graph, blocks: str, length: int) -> tuple[str, str]:
    """Append a matrix over centred blocks, and return the names of output and scale.

    W·(2·b - 255) + 255·M² is (2·W)·b plus a constant: one convolution. The weight and
    the constant are computed once, when a runtime loads the graph. All of them are
    whole numbers below 2²⁴, so that nothing is rounded (section 10).
    """
    matrix = graph.slot("orthogonal.matrix", TensorProto.FLOAT, [length, length, 1, 1])
    growth = np.float32(length // CHANNELS)  # M², of the two rounds together
    columns = graph.constant("columns", np.array([1, 2, 3], dtype=np.int64))
    sums = graph.add("ReduceSum", matrix, columns, keepdims=0)
    below = graph.add("Mul", sums, graph.constant("byte_max", BYTE_MAX))
    middle = graph.constant("middle", BYTE_MAX * growth)
    bias = graph.add("Sub", middle, below)
    weight = graph.add("Add", matrix, matrix)
    mixed = graph.add("Conv", blocks, weight, bias, kernel_shape=[1, 1])
    return mixed, graph.constant("scale", 2 * BYTE_MAX * growth)


def _looked_up(graph: _Graph, table: str, blocks: str) -> str:
    """Append a table lookup of every value, and return the name of its output."""
    # GatherElements and not Gather: ten times as fast for single values in onnxruntime
    # on a CPU. It wants the table and the entries to have the same number of axes.
    flat = graph.constant("flat", np.array([-1], dtype=np.int64))
    values = graph.add("Reshape", graph.add("Cast", blocks, to=TensorProto.INT32), flat)
    found = graph.add("GatherElements", table, values)
    return graph.add("Reshape", found, graph.add("Shape", blocks))


def _channels(values: Sequence[float]) -> np.ndarray:
    if len(values) != CHANNELS:
        raise ValueError(
            f"expected {CHANNELS} numbers, one for each channel, got {values}"
        )
    return np.array(values, dtype=np.float32).reshape(CHANNELS, 1, 1)


def _model(graph: _Graph, opset: int, ir_version: int) -> ModelProto:
    # onnx.checker expects a file behind external data, and a key slot has none.
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "preprocess",
            [_images(INPUT, TensorProto.UINT8)],
            [_images(OUTPUT, TensorProto.FLOAT), _images(VALUES, TensorProto.FLOAT)],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
        producer_name="mlguard",
    )


def _images(name: str, data_type: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, data_type, ["N", CHANNELS, "H", "W"])
