"""Weights are taken out from wherever they stand, and the answers stay as they are."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, save

from mlguard.errors import ModelFileError, ParityError
from mlguard.foreign import Lifted, export_file, lift_file
from mlguard.foreign.compare import compare, run, same
from mlguard.foreign.sessions import load
from mlguard.foreign.take import point_outside
from mlguard.keys import ModelKey
from mlguard.runtime import Session
from mlguard.sealing import PlainTensor
from tests.foreign import models
from tests.foreign.models import written

X = {"x": np.random.default_rng(5).standard_normal((3, 8)).astype(np.float32)}
PLACES = [
    models.linear,
    models.with_constant_node,
    models.with_number_lists,
    models.with_branches,
    models.with_loop,
    models.with_scan,
    models.with_function,
    models.with_old_inputs,
    models.with_microsoft,
    models.with_outputs_held,
]
KINDS = [
    *("FLOAT16", "BFLOAT16", "FLOAT8E4M3FN"),
    *("FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"),
]


def lifted(tmp_path: Path, made: ModelProto) -> Lifted:
    return lift_file(written(tmp_path / "m.onnx", made))


@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("sign", [1, -1])  # both branches
def test_answers_are_the_same_and_no_weight_is_in_the_graph(
    make: Callable[[], ModelProto], sign: int, tmp_path: Path
) -> None:
    done = lifted(tmp_path, make())
    assert done.tensors
    for tensor in done.tensors:
        assert bytes(tensor.data) not in done.graph
    feeds = {"x": sign * abs(X["x"])}
    plain, keyed = load(tmp_path / "m.onnx"), load(done.graph, done.tensors)
    assert same(run(plain, feeds), run(keyed, feeds))


def test_other_weights_would_be_seen(tmp_path: Path) -> None:
    """Without this, equal answers would prove nothing."""
    done = lifted(tmp_path, models.with_branches())
    (first, second) = done.tensors
    swapped = [
        PlainTensor(t.name, t.element_type, t.shape, bytes(memoryview(t.data))[::-1])
        for t in (first, second)
    ]
    plain, other = load(tmp_path / "m.onnx"), load(done.graph, swapped)
    assert not same(run(plain, X), run(other, X))


def test_a_graph_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", models.linear())
    other = models.linear()
    other.graph.node[1].op_type = "Sub"
    with pytest.raises(ParityError, match="answers differently"):
        compare(
            lambda: load(path), lambda: load(other.SerializeToString()), name="m.onnx"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_type_without_arrays_travels_as_bytes(kind: str, tmp_path: Path) -> None:
    number = TensorProto.DataType.Value(kind)
    done = lifted(tmp_path, models.cast(number))
    assert [tensor.element_type for tensor in done.tensors] == [number]
    assert done.share == 1


@pytest.mark.parametrize("kind", ["INT8", "INT4", "UINT4"])
def test_quantized_weights_are_taken_as_they_are(kind: str, tmp_path: Path) -> None:
    number = TensorProto.DataType.Value(kind)
    done = lifted(tmp_path, models.quantized(number))
    (tensor,) = done.tensors
    assert tensor.element_type == number
    assert tensor.size_bytes == 64 * 8 // (1 if kind == "INT8" else 2)
    assert done.small_bytes == 4  # the scale


def test_attributes_stay_and_are_named(tmp_path: Path) -> None:
    done = lifted(tmp_path, models.trees())
    assert done.tensors == ()
    reasons = {one.reason for one in done.uncovered}
    assert reasons == {"it is an attribute of TreeEnsembleRegressor"}
    assert done.share == 0
    assert any(one.name.endswith("target_weights") for one in done.uncovered)


def test_strings_stay_and_are_named(tmp_path: Path) -> None:
    done = lifted(tmp_path, models.strings())
    assert [(one.name, one.reason) for one in done.uncovered] == [
        ("t", "it has strings, which cannot be external data")
    ]


def test_what_shape_inference_reads_stays(tmp_path: Path) -> None:
    done = lifted(tmp_path, models.padded())
    assert [one.name for one in done.uncovered] == ["pads"]
    assert "work out shapes" in done.uncovered[0].reason
    assert len(done.tensors) == 2


def test_data_files_are_read_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(
        models.linear(),
        path,
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    done = lift_file(path)
    plain = {bytes(t.raw_data) for t in models.linear().graph.initializer}
    assert {bytes(tensor.data) for tensor in done.tensors} == plain
    assert all(isinstance(tensor.data, np.memmap) for tensor in done.tensors)


def test_two_tensors_may_be_the_same_bytes_of_a_data_file(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.initializer[1].CopyFrom(
        models.initializer("b", np.ascontiguousarray(models.weights(8, 8)))
    )
    path = tmp_path / "m.onnx"
    save(made, path, save_as_external_data=True, location="d", size_threshold=0)
    changed = ModelProto.FromString(path.read_bytes())
    entries = changed.graph.initializer[1].external_data
    for entry, first in zip(
        entries, changed.graph.initializer[0].external_data, strict=True
    ):
        entry.CopyFrom(first)
    path.write_bytes(changed.SerializeToString())
    lift_feeds = {"x": np.ones((8, 8), np.float32)}
    assert len(lift_file(path, example=lift_feeds).tensors) == 2


def test_no_name_of_the_owner_is_left_but_inputs_and_outputs(tmp_path: Path) -> None:
    made = models.with_function()
    made.doc_string = made.producer_name = made.graph.name = "OWNER"
    made.graph.node[0].name = "OWNER"
    entry = made.metadata_props.add()
    entry.key, entry.value = "OWNER", "OWNER"
    done = lifted(tmp_path, made)
    left = ModelProto.FromString(done.graph)
    assert b"OWNER" not in done.graph
    assert b"Layer" not in done.graph
    assert [v.name for v in (*left.graph.input, *left.graph.output)] == ["x", "y"]


def test_weights_called_almost_alike_or_oddly_get_names_of_ours(tmp_path: Path) -> None:
    made = models.linear()
    for old, new in (("w", "A\x1b[2J"), ("b", "a\x1b[2j")):
        for tensor in made.graph.initializer:
            tensor.name = new if tensor.name == old else tensor.name
        for node in made.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
    done = lifted(tmp_path, made)
    assert [tensor.name for tensor in done.tensors] == ["t0", "t1"]


def test_names_of_ours_are_never_those_of_an_input(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.input[0].name = "t0"
    made.graph.node[0].input[0] = "t0"
    made.graph.output[0].name = "t1"
    made.graph.node[1].output[0] = "t1"
    done = lifted(tmp_path, made)
    assert {tensor.name for tensor in done.tensors}.isdisjoint({"t0", "t1"})


def test_defaults_of_inputs_become_constants_if_asked(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.input.append(models.value("b", [8]))
    path = written(tmp_path / "m.onnx", made)
    with pytest.raises(ModelFileError, match="'b' is also an input"):
        lift_file(path)
    done = lift_file(path, freeze_inputs=True)
    assert len(done.tensors) == 2
    inputs = [value.name for value in load(done.graph, done.tensors).get_inputs()]
    assert inputs == ["x"]


def test_a_model_that_draws_is_compared_by_shapes() -> None:
    one, other = models.linear(), models.linear()
    other.graph.node[1].op_type = "Sub"
    loads = (partial(load, made.SerializeToString()) for made in (one, other))
    assert compare(*loads, name="m.onnx", random=True).random
    other.graph.node[1].op_type, other.graph.output[0].name = "Shape", "y"
    del other.graph.node[1].input[1]
    other.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    loads = (partial(load, made.SerializeToString()) for made in (one, other))
    with pytest.raises(ParityError, match="answers differently"):
        compare(*loads, name="m.onnx", random=True)


@pytest.mark.slow
def test_one_tensor_may_have_more_than_two_gibibytes(tmp_path: Path) -> None:
    """A table whose data file has holes, so that it takes no space."""
    rows, columns = (1 << 21) + 9, 1024
    nodes = [models.node("Gather", ["w", "x"], ["y"])]
    held = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[rows, columns])
    point_outside(held, "w.data")
    inputs = [models.value("x", ["N"], TensorProto.INT64)]
    outputs = [models.value("y", None, TensorProto.UINT8)]
    with open(tmp_path / "w.data", "wb") as file:
        file.truncate(rows * columns)
        file.seek((rows - 1) * columns)
        file.write(bytes(range(256)))
    path = written(
        tmp_path / "m.onnx", models.model(models.graph(nodes, inputs, outputs, [held]))
    )
    last = {"x": np.array([rows - 1])}
    key = ModelKey(bytes(range(32)))
    done = export_file(path, key, tmp_path / "m.mlgb", example=last)
    assert done.lifted.covered_bytes > 1 << 31
    answer = Session.open(tmp_path / "m.mlgb", key).run(last)["y"]
    assert bytes(answer.ravel()[:256]) == bytes(range(256))
