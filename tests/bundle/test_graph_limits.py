"""Graphs that a bundle refuses before an inference library sees them."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mlguard.bundle import graph_limits, make_bundle
from mlguard.bundle.graph_limits import check_graph
from mlguard.errors import MalformedBundle
from tests.bundles import KEY, PROTECTION_ID, facts, model_graph, preprocess_graph

GRAPH = model_graph()


def model(*nodes: object, initializers: tuple = (), **options: object) -> bytes:
    graph = helper.make_graph(list(nodes), "g", [], [], list(initializers))
    opsets = options.pop("opset_imports", [helper.make_opsetid("", 20)])
    return helper.make_model(graph, opset_imports=opsets, **options).SerializeToString()


def nested(depth: int) -> object:
    node = helper.make_node("Identity", ["a"], ["b"])
    for _ in range(depth - 1):
        graph = helper.make_graph([node], "g", [], [])
        node = helper.make_node(
            "If", ["a"], ["b"], then_branch=graph, else_branch=graph
        )
    return node


def outside(name: str = "w") -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def test_a_model_without_slots_passes() -> None:
    found = check_graph(GRAPH, name="model.onnx")
    assert (found.opset, found.nodes, found.slots) == (20, 1, set())


def test_the_slots_of_a_preprocess_graph_are_found() -> None:
    given_facts = facts(transform={"methods": ("shf", "ffx"), "block_size": 4})
    found = check_graph(preprocess_graph(given_facts), name="preprocess.onnx")
    assert found.slots == {"shf.order", "ffx.mask", "ffx.table"}


def test_a_count_just_within_the_limits_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_limits, "MAX_NODES", 3)
    node = helper.make_node("Identity", ["a"], ["b"])
    assert check_graph(model(node, node, node), name="g").nodes == 3


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (b"", "expected one graph, got 0"),
        (GRAPH + GRAPH, "one opset|one graph"),
        (GRAPH[:-3], "ends too early"),
        (b"\x80" * 20, "is not an ONNX file"),
        (b"\x0b\x0c", "is not an ONNX file"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends too early"),
        (b"\x02\x00" + GRAPH, "an impossible field number"),
        (b"\xba\x80\x80\x80\x80\x01\x00" + GRAPH, "an impossible field number"),
        (b"\x88\x00\x01" + GRAPH, "more bytes than necessary"),
        (b"\x08\x81\x80\x00" + GRAPH, "more bytes than necessary"),
        (b"\x08" + b"\xff" * 9 + b"\x03" + GRAPH, "more bytes than necessary"),
        (model(helper.make_node("Op", ["a"], ["b"], domain="evil")), "default domain"),
        (
            model(opset_imports=[helper.make_opsetid("com.microsoft", 1)]),
            "default domain",
        ),
        (
            model(helper.make_node("Constant", [], ["c"], value=outside())),
            "constant points outside",
        ),
        (model(initializers=(outside(), outside())), "repeated initializer"),
    ],
    ids=[
        "empty", "twice", "truncated", "varint", "group", "size", "field 0", "tag",
        "long tag", "long number", "65 bits", "operator", "opset", "constant",
        "slot twice",
    ],
)  # fmt: skip
def test_an_unfit_graph_is_refused(graph: bytes, reason: str) -> None:
    with pytest.raises(MalformedBundle, match=reason):
        check_graph(graph, name="g")


def test_a_negative_number_has_ten_bytes_and_passes() -> None:
    minus_one = b"\x28" + b"\xff" * 9 + b"\x01"  # model_version
    assert check_graph(minus_one + GRAPH, name="g").nodes == 1


def test_too_many_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_limits, "MAX_NODES", 2)
    node = helper.make_node("Identity", ["a"], ["b"])
    with pytest.raises(MalformedBundle, match="more than 2 nodes"):
        check_graph(model(node, node, node), name="g")


def test_too_many_fields_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_limits, "MAX_FIELDS", 5)
    with pytest.raises(MalformedBundle, match="more than 5 fields"):
        check_graph(GRAPH, name="g")


def test_graphs_nested_too_deep_are_refused() -> None:
    limit = graph_limits.MAX_DEPTH
    assert check_graph(model(nested(limit)), name="g").nodes > limit
    with pytest.raises(MalformedBundle, match=f"deeper than {limit}"):
        check_graph(model(nested(limit + 1)), name="g")


def test_a_model_that_reads_a_file_is_refused() -> None:
    given_facts = facts()
    with pytest.raises(MalformedBundle, match="points to data outside the file"):
        make_bundle(
            given_facts,
            preprocess=preprocess_graph(given_facts),
            model=model(initializers=(outside(),)),
            subkeys=KEY.for_model(PROTECTION_ID),
            name="small",
        )


def test_graphs_of_another_opset_are_refused() -> None:
    given_facts = facts(opset=21)
    with pytest.raises(MalformedBundle, match="has opset 20, expected 21"):
        make_bundle(
            given_facts,
            preprocess=preprocess_graph(given_facts),
            model=GRAPH,
            subkeys=KEY.for_model(PROTECTION_ID),
            name="small",
        )


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(MalformedBundle, match="g: "):
        check_graph(data, name="g")


@settings(deadline=None)
@given(st.integers(0, len(GRAPH) - 1), st.binary(min_size=1, max_size=8))
def test_damage_within_a_graph_escapes_as_nothing_but_a_refusal(
    start: int, damage: bytes
) -> None:
    data = GRAPH[:start] + damage + GRAPH[start + len(damage) :]
    with contextlib.suppress(MalformedBundle):
        check_graph(data, name="g")
