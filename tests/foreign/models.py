"""Small ONNX models of the kinds that people bring."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
    save,
)

FLOAT = TensorProto.FLOAT
node = helper.make_node


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def initializer(name: str, array: NDArray[Any]) -> TensorProto:
    return numpy_helper.from_array(array, name)


def constant(name: str, array: NDArray[Any]) -> NodeProto:
    return node("Constant", [], [name], value=numpy_helper.from_array(array))


def value(name: str, shape: Sequence[int | str] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initializers: Sequence[TensorProto] = (),
) -> GraphProto:
    return helper.make_graph(nodes, "g", inputs, outputs, initializers)


def model(
    whole: GraphProto,
    *,
    opset: int = 18,
    ir: int = 9,
    domains: Sequence[str] = (),
    functions: Sequence[FunctionProto] = (),
) -> ModelProto:
    sets = [helper.make_opsetid("", opset)]
    sets += [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(
        whole, opset_imports=sets, ir_version=ir, functions=functions
    )


def linear(**how: Any) -> ModelProto:
    """y = x·w + b, both initializers."""
    nodes = [node("MatMul", ["x", "w"], ["xw"]), node("Add", ["xw", "b"], ["y"])]
    held = [initializer("w", weights(8, 8)), initializer("b", weights(8, seed=1))]
    return model(graph(nodes, [value("x", ["N", 8])], [value("y", None)], held), **how)


def segmenter() -> ModelProto:
    """Two scores for every fourth pixel of an RGB image."""
    conv = node("Conv", ["x", "w"], ["y"], strides=[4, 4], kernel_shape=[4, 4])
    free = ["N", 2, "H", "W"]
    takes, gives = value("x", ["N", 3, "H4", "W4"]), value("y", free)
    held = [initializer("w", weights(2, 3, 4, 4))]
    return model(graph([conv], [takes], [gives], held))


def written(path: Path, content: ModelProto) -> Path:
    save(content, path)
    return path


def with_constant_node() -> ModelProto:
    nodes = [constant("w", weights(8, 8)), node("MatMul", ["x", "w"], ["y"])]
    return model(graph(nodes, [value("x", ["N", 8])], [value("y", None)]))


def with_number_lists() -> ModelProto:
    """Constant nodes that hold lists of numbers and no tensor."""
    nodes = [
        node("Constant", [], ["w"], value_floats=weights(64).tolist()),
        node("Constant", [], ["s"], value_ints=[8, 8]),
        node("Reshape", ["w", "s"], ["m"]),
        node("MatMul", ["x", "m"], ["y"]),
    ]
    return model(graph(nodes, [value("x", ["N", 8])], [value("y", None)]))


def with_branches() -> ModelProto:
    """An If, all weights inside its branches, both of one name; one goes out as is."""
    out = [value("o", None)]
    product = [constant("w", weights(8, 8)), node("MatMul", ["x", "w"], ["o"])]
    nodes = [
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["c"]),
        node(
            "If",
            ["c"],
            ["y"],
            then_branch=graph(product, [], out),
            else_branch=graph([constant("o", weights(1, 8, seed=2))], [], out),
        ),
    ]
    zero = initializer("zero", np.float32(0))
    whole = graph(nodes, [value("x", ["N", 8])], [value("y", None)], [zero])
    return model(whole)


def with_loop() -> ModelProto:
    """A Loop whose body holds its weights as an initializer."""
    body = graph(
        [node("MatMul", ["a", "w"], ["b"]), node("Identity", ["go"], ["on"])],
        [value("i", [], 7), value("go", [], 9), value("a", ["N", 8])],
        [value("on", [], 9), value("b", ["N", 8])],
        [initializer("w", weights(8, 8) / 8)],
    )
    nodes = [node("Loop", ["times", "", "x"], ["y"], body=body)]
    times = initializer("times", np.int64(3))
    whole = graph(nodes, [value("x", ["N", 8])], [value("y", ["N", 8])], [times])
    return model(whole)


def with_scan() -> ModelProto:
    """A Scan whose body holds its weights in a Constant node."""
    body = graph(
        [
            constant("w", weights(8, 8) / 8),
            node("MatMul", ["row", "w"], ["out"]),
            node("Add", ["state", "out"], ["next"]),
        ],
        [value("state", [8]), value("row", [8])],
        [value("next", [8]), value("out", [8])],
    )
    nodes = [node("Scan", ["start", "x"], ["last", "y"], body=body, num_scan_inputs=1)]
    start = initializer("start", np.zeros(8, np.float32))
    outputs = [value("y", ["N", 8]), value("last", [8])]
    return model(graph(nodes, [value("x", ["N", 8])], outputs, [start]))


def with_function() -> ModelProto:
    """A local function, called twice, with the weights inside."""
    body = [constant("w", weights(8, 8)), node("MatMul", ["a", "w"], ["b"])]
    sets = [helper.make_opsetid("", 18)]
    function = helper.make_function("own", "Layer", ["a"], ["b"], body, sets)
    nodes = [
        node("Layer", ["x"], ["h"], domain="own"),
        node("Layer", ["h"], ["y"], domain="own"),
    ]
    whole = graph(nodes, [value("x", ["N", 8])], [value("y", None)])
    return model(whole, domains=["own"], functions=[function])


def with_old_inputs() -> ModelProto:
    """IR version 3: every initializer is an input too, and a constant all the same."""
    made = linear(opset=8, ir=3)
    made.graph.input.extend([value("w", [8, 8]), value("b", [8])])
    return made


def with_microsoft() -> ModelProto:
    """An operator of onnxruntime's own domain."""
    nodes = [node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", alpha=0.5)]
    held = [initializer("w", weights(8, 8))]
    whole = graph(nodes, [value("x", ["N", 8])], [value("y", None)], held)
    return model(whole, domains=["com.microsoft"])


def with_outputs_held() -> ModelProto:
    """A weight that is an output, and one that nothing uses."""
    made = linear()
    made.graph.output.append(value("w", [8, 8]))
    made.graph.initializer.append(initializer("unused", weights(99)))
    made.graph.node.append(constant("unused too", weights(99)))
    return made


def quantized(kind: int) -> ModelProto:
    """Weights of 4 or 8 bits, dequantized on the way."""
    names = {TensorProto.INT8: 18, TensorProto.INT4: 21, TensorProto.UINT4: 21}
    numbers = np.random.default_rng(0).integers(0, 8, 64 * 8)
    w = helper.make_tensor("w", kind, [64, 8], numbers)
    nodes = [
        node("DequantizeLinear", ["w", "s"], ["f"]),
        node("MatMul", ["x", "f"], ["y"]),
    ]
    held = [w, initializer("s", np.float32(0.1))]
    whole = graph(nodes, [value("x", ["N", 64])], [value("y", None)], held)
    return model(whole, opset=names[kind], ir=10)


def cast(kind: int) -> ModelProto:
    """Weights of a type that few operators take, cast on the way."""
    raw = np.random.default_rng(0).integers(0, 56, 512, np.uint8).tobytes()
    size = 2 if kind in (TensorProto.BFLOAT16, TensorProto.FLOAT16) else 1
    w = helper.make_tensor("w", kind, [512 // size // 8, 8], raw, raw=True)
    nodes = [node("Cast", ["w"], ["f"], to=FLOAT), node("MatMul", ["x", "f"], ["y"])]
    inputs = [value("x", ["N", 512 // size // 8])]
    return model(graph(nodes, inputs, [value("y", None)], [w]), opset=19)


def trees() -> ModelProto:
    """A forest of ai.onnx.ml, whose weights are attributes."""
    count = 64
    many: dict[str, Any] = {
        "nodes_treeids": list(range(count)),
        "nodes_nodeids": [0] * count,
        "nodes_featureids": [0] * count,
        "nodes_values": [0.0] * count,
        "nodes_modes": ["LEAF"] * count,
        "nodes_truenodeids": [0] * count,
        "nodes_falsenodeids": [0] * count,
        "target_treeids": list(range(count)),
        "target_nodeids": [0] * count,
        "target_ids": [0] * count,
        "target_weights": weights(count).tolist(),
    }
    nodes = [
        node(
            "TreeEnsembleRegressor",
            ["x"],
            ["y"],
            domain="ai.onnx.ml",
            n_targets=1,
            **many,
        )
    ]
    whole = graph(nodes, [value("x", ["N", 8])], [value("y", ["N", 1])])
    return model(whole, domains=["ai.onnx.ml"])


def strings() -> ModelProto:
    """Strings in and out, and a table of strings inside."""
    table = helper.make_tensor(
        "t", TensorProto.STRING, [99], [b"word %d" % i for i in range(99)]
    )
    nodes = [node("Gather", ["t", "x"], ["y"])]
    inputs = [value("x", ["N"], TensorProto.INT64)]
    return model(graph(nodes, inputs, [value("y", None, TensorProto.STRING)], [table]))


def padded() -> ModelProto:
    """A tensor of 128 bytes that shape inference reads, and weights."""
    made = linear()
    pads = np.zeros(16, np.int64)
    made.graph.initializer.append(initializer("pads", pads))
    made.graph.initializer.append(initializer("shape", np.array([1] * 7 + [-1])))
    made.graph.node.append(node("Reshape", ["y", "shape"], ["eight"]))
    made.graph.node.append(node("Pad", ["eight", "pads"], ["z"]))
    made.graph.output.append(value("z", None))
    return made
