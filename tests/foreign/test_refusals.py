"""What is no model, or none that a key can hold, is refused by a sentence."""

import os
import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, save

from mlguard.cli.exit_codes import exit_code_of
from mlguard.errors import ModelFileError
from mlguard.foreign import lift_file
from tests.foreign import models
from tests.foreign.models import value, written

WEIGHT, BIAS = 0, 1  # of models.linear


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelFileError, match=match) as refusal:
        lift_file(path)
    assert exit_code_of(refusal.value) == 40
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "content", [b"", b"no model at all", bytes(range(256)), b"\x08\x07", b"PK\x03\x04"]
)
def test_not_an_onnx_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refused(path, "is not an ONNX file")


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.linear().SerializeToString()[:-40])
    refused(path, "is not an ONNX file, or a damaged one")


def test_onnxruntimes_own_format(tmp_path: Path) -> None:
    path = tmp_path / "m.ort"
    path.write_bytes(bytes(4) + b"ORTM" + bytes(64))
    refused(path, "own format, expected ONNX")


def test_no_file_and_a_pipe(tmp_path: Path) -> None:
    refused(tmp_path / "m.onnx", "cannot read model .*No such file")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "not a regular file")


@pytest.mark.parametrize(("opset", "ir"), [(99, 9), (18, 99)])
def test_too_new_is_named_as_that(opset: int, ir: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.linear(opset=opset, ir=ir).SerializeToString())
    refused(path, f"newer than the installed onnxruntime.*IR version {ir}.*{opset}")


def test_operators_that_onnxruntime_does_not_have(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.node[0].op_type = "NoSuchOperator"
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    refused(path, "uses operators that it lacks")


def test_an_initializer_that_is_also_an_input(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.input.extend([value("w", [8, 8]), value("b", [8])])
    refused(written(tmp_path / "m.onnx", made), "'w' is also an input.*and so are 1")


def test_no_weights(tmp_path: Path) -> None:
    nodes = [models.node("Relu", ["x"], ["y"])]
    made = models.model(models.graph(nodes, [value("x", [2])], [value("y", [2])]))
    refused(written(tmp_path / "m.onnx", made), "no weights to protect")


def test_a_type_that_nobody_knows(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.initializer.append(TensorProto(name="odd", data_type=99, dims=[9]))
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    refused(path, "has type 99, which this version of mlguard does not know")


@pytest.mark.parametrize("name", ["a\x1b[2J", "new\nline", "x" * 300])
def test_an_input_that_no_terminal_should_show(name: str, tmp_path: Path) -> None:
    made = models.linear()
    made.graph.input[0].name = made.graph.node[0].input[0] = name
    refused(written(tmp_path / "m.onnx", made), "printable characters")


def test_inputs_that_differ_in_case_alone(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.input.append(value("X", ["N", 8]))
    refused(written(tmp_path / "m.onnx", made), "'x' and 'X' differ only in case")


def external(tmp_path: Path) -> tuple[Path, ModelProto]:
    path = tmp_path / "m.onnx"
    save(
        models.linear(),
        path,
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    return path, ModelProto.FromString(path.read_bytes())


def edited(tmp_path: Path, **facts: str) -> Path:
    """The model with its data file, the bias's entry changed."""
    path, made = external(tmp_path)
    tensor = made.graph.initializer[BIAS]
    kept = {entry.key: entry.value for entry in tensor.external_data} | facts
    tensor.ClearField("external_data")
    for key, text in kept.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, text
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("facts", "match"),
    [
        ({"location": "gone.data"}, "'gone.data' is not there"),
        ({"location": "../m.data"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "a\0b"}, "is not there"),
        ({"location": "."}, "is not a regular file"),
        ({"location": ""}, "whose place is unknown"),
        ({"offset": "8"}, "overlap in m.data"),
        ({"offset": "4000"}, "ends at byte 4032 of m.data, which has"),
        ({"offset": "-1"}, "expected a number of bytes"),
        ({"length": "31"}, "has 32 bytes, but 31 in its data file"),
    ],
)
def test_data_files_are_checked(
    facts: dict[str, str], match: str, tmp_path: Path
) -> None:
    refused(edited(tmp_path, **facts), match)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path, _ = external(tmp_path / "inside")
    os.rename(path.parent / "m.data", tmp_path / "m.data")
    os.symlink(tmp_path / "m.data", path.parent / "m.data")
    refused(path, "outside the model's folder")


def test_the_checked_data_file_as_it_was_is_taken(tmp_path: Path) -> None:
    """Without this, the refusals above could be of something else."""
    assert len(lift_file(edited(tmp_path)).tensors) == 2


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: t.dims.__setitem__(0, 9), "has 256 bytes, expected 288"),
        (lambda t: t.dims.__setitem__(0, -8), "negative size"),
        (lambda t: setattr(t, "data_type", 99), "type 99"),
    ],
)
def test_tensors_are_checked(edit, match: str, tmp_path: Path) -> None:
    made = models.linear()
    edit(made.graph.initializer[WEIGHT])
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    refused(path, match)


def test_an_example_whose_answers_are_nan_compares_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", models.linear())
    with pytest.raises(ModelFileError, match="NaN alone, so that nothing would be"):
        lift_file(path, example={"x": np.full((1, 8), np.nan, np.float32)})


def test_an_example_that_does_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", models.linear())
    with pytest.raises(ModelFileError, match="does not run on the example"):
        lift_file(path, example={"x": np.ones((1, 9), np.float32)})


def test_inputs_that_nobody_could_guess(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", models.FLOAT, None)
    made = models.linear()
    made.graph.input.append(sequence)
    made.graph.node.append(models.node("SequenceLength", ["s"], ["n"]))
    made.graph.output.append(value("n", [], TensorProto.INT64))
    path = written(tmp_path / "m.onnx", made)
    with pytest.raises(ModelFileError, match="random inputs") as refusal:
        lift_file(path)
    assert "--example" in refusal.value.hint
    given = {"x": np.ones((1, 8), np.float32), "s": [np.ones(2, np.float32)]}
    assert len(lift_file(path, example=given).tensors) == 2


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.linear().SerializeToString().replace(b"w", b"\xff"))
    refused(path, "a name in the model is not UTF-8")


def test_outputs_of_one_name(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.output.append(made.graph.output[0])
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    refused(path, "two inputs or two outputs are called 'y'")


@pytest.mark.parametrize("seed", range(24))
def test_a_damaged_file_is_refused_or_answers_as_onnxruntime_does(
    seed: int, tmp_path: Path
) -> None:
    draws = random.Random(seed)
    makes = (models.linear, models.with_branches, models.with_function, models.trees)
    content = bytearray(draws.choice(makes)().SerializeToString())
    for _ in range(draws.randint(1, 3)):
        at = draws.randrange(len(content))
        content[at : at + draws.randrange(4)] = draws.randbytes(draws.randrange(4))
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with suppress(ModelFileError):
        lift_file(path)
