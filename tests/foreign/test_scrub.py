"""Scrubbing: the same numbers under names that say nothing."""

import numpy as np
from onnx import (
    ModelProto,
    StringStringEntryProto,
    TensorProto,
    checker,
    helper,
    numpy_helper,
)

from mlguard.engine import onnxruntime
from mlguard.foreign import scrub

SECRET = "/home/owner/secret_project/net.py"


def talkative() -> ModelProto:
    """A graph with a branch, a local function, and SECRET wherever it can be."""
    tensor = helper.make_tensor_value_info
    free = [("N"), 2]
    note = StringStringEntryProto(key="stack_trace", value=SECRET)
    outer = helper.make_node("Add", ["pixels", "SECRET.w"], ["SECRET.sum"])
    double = helper.make_node(
        "Double", ["SECRET.sum"], ["SECRET.twice"], domain="SECRET"
    )
    branches = {}
    for branch, factor in (("then_branch", 3.0), ("else_branch", -1.0)):
        weight = numpy_helper.from_array(np.float32(factor), "SECRET.factor")
        # SECRET.twice belongs to the outer graph
        node = helper.make_node("Mul", ["SECRET.twice", "SECRET.factor"], ["SECRET.y"])
        node.metadata_props.append(note)
        node.doc_string = SECRET
        output = tensor("SECRET.y", TensorProto.FLOAT, free)
        branches[branch] = helper.make_graph([node], SECRET, [], [output], [weight])
    compare = helper.make_node("Greater", ["SECRET.total", "SECRET.zero"], ["SECRET.c"])
    total = helper.make_node(
        "ReduceSum", ["SECRET.twice"], ["SECRET.total"], keepdims=0
    )
    choose = helper.make_node("If", ["SECRET.c"], ["logits"], name=SECRET, **branches)
    initializers = [
        numpy_helper.from_array(np.float32([1, 2]), "SECRET.w"),
        numpy_helper.from_array(np.float32(0), "SECRET.zero"),
    ]
    graph = helper.make_graph(
        [outer, double, total, compare, choose],
        SECRET,
        [tensor("pixels", TensorProto.FLOAT, free)],
        [tensor("logits", TensorProto.FLOAT, free)],
        initializers,
        value_info=[tensor("SECRET.sum", TensorProto.FLOAT, ["SECRET.size", 2])],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("SECRET", 1)]
    function = helper.make_function(
        "SECRET",
        "Double",
        ["x"],
        ["y"],
        [helper.make_node("Add", ["x", "x"], ["y"])],
        opsets[:1],
    )
    model = helper.make_model(
        graph, functions=[function], opset_imports=opsets, ir_version=10
    )
    for message in (model, graph, graph.node[0], graph.initializer[0], graph.input[0]):
        message.doc_string = SECRET
    for message in (model, graph.node[0], graph.initializer[0], graph.output[0]):
        message.metadata_props.append(note)
    model.graph.CopyFrom(graph)
    model.producer_name = model.producer_version = model.domain = SECRET
    return model


def run(model: ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {"pixels": pixels})
    return np.asarray(logits)


def test_nothing_of_the_source_is_left() -> None:
    model = talkative()
    assert model.SerializeToString().count(b"SECRET") > 20
    left = scrub(model).SerializeToString()
    for word in (b"SECRET", b"secret", b"owner", b".py", b"stack_trace", b"Double"):
        assert word not in left


def test_the_scrubbed_model_computes_the_same() -> None:
    model = talkative()
    for sign in (1, -1):  # both branches
        pixels = sign * np.float32([[5, 6], [7, 8]])
        np.testing.assert_array_equal(run(model, pixels), run(scrub(model), pixels))


def test_the_branches_differ() -> None:
    """Without this, the test above would not show that both are kept."""
    model = scrub(talkative())
    one = np.ones((1, 2), np.float32)
    assert (run(model, one) > 0).all()
    assert (run(model, -10 * one) > 0).all()
    assert run(model, one)[0, 0] == 3 * 2 * 2
    assert run(model, -10 * one)[0, 0] == -1 * 2 * -9


def test_the_scrubbed_model_is_valid_and_keeps_its_interface() -> None:
    model = scrub(talkative())
    checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["pixels"]
    assert [value.name for value in model.graph.output] == ["logits"]
    sizes = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["N", ""]
    assert model.producer_name == "mlguard"


def test_the_model_that_was_given_is_left_as_it_was() -> None:
    model = talkative()
    before = model.SerializeToString(deterministic=True)
    scrub(model)
    assert model.SerializeToString(deterministic=True) == before
