"""From an ONNX file to a bundle, and back to the same weights."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.cli.exit_codes import exit_code_of
from mlguard.errors import (
    BundleError,
    ModelFileError,
    OutputExists,
    ParityError,
    WrongKey,
)
from mlguard.foreign import About, export_file, read_about
from mlguard.foreign.compare import run, same
from mlguard.foreign.sessions import load
from mlguard.keys import ModelKey
from mlguard.sealing import PlainTensor
from tests.foreign import models
from tests.foreign.models import written

KEY, OTHER = ModelKey(bytes(range(32))), ModelKey(bytes(range(1, 33)))
X = {"x": np.random.default_rng(5).standard_normal((3, 8)).astype(np.float32)}


def exported(folder: Path, name: str = "m") -> Bundle2:
    source = written(folder / f"{name}.onnx", models.with_branches())
    export_file(source, KEY, folder / f"{name}.mlgb")
    return opened(folder / f"{name}.mlgb")


def opened(path: Path) -> Bundle2:
    bundle = glimpse_bundle(path)
    assert isinstance(bundle, Bundle2)
    return bundle


def parts(bundle: Bundle2, key: ModelKey = KEY) -> tuple[bytes, list[PlainTensor]]:
    """The graph and its tensors, as a runtime opens them."""
    unlocked = bundle.unlock(key)
    graph = unlocked.graph()
    tensors = [
        PlainTensor(row.header.name, row.header.element_type, row.header.shape, data)
        for row, data in unlocked.tensors(graph.rows)
    ]
    return graph.content, tensors


def test_what_comes_out_of_the_bundle_answers_as_the_model(tmp_path: Path) -> None:
    content, tensors = parts(exported(tmp_path))
    assert len(tensors) == 2
    plain, keyed = load(tmp_path / "m.onnx"), load(content, tensors)
    assert same(run(plain, X), run(keyed, X))


def test_no_weight_and_no_name_lies_in_the_file(tmp_path: Path) -> None:
    made = models.linear()
    made.producer_name = made.graph.name = "OWNER"
    source = written(tmp_path / "m.onnx", made)
    export_file(source, KEY, tmp_path / "m.mlgb")
    content = (tmp_path / "m.mlgb").read_bytes()
    for tensor in made.graph.initializer:
        assert tensor.raw_data in source.read_bytes()
        assert tensor.raw_data not in content
    assert b"OWNER" not in content
    assert b"MatMul" not in content


def test_the_manifest_says_what_goes_in_and_out_and_what_is_covered(
    tmp_path: Path,
) -> None:
    about = exported(tmp_path).manifest
    assert [(one.name, one.datatype, one.shape) for one in about.inputs] == [
        ("x", "FP32", (-1, 8))
    ]
    assert [one.name for one in about.outputs] == ["y"]
    assert about.coverage.share == 1
    assert about.coverage.size == (64 + 8) * 4 + 4
    assert about.opsets == {"": 18}
    assert "onnx" in about.provenance.versions


def test_another_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongKey, match="was made for key"):
        exported(tmp_path).unlock(OTHER)


def weights_of(bundle: Bundle2) -> list[slice]:
    """Where each tensor lies in the file."""
    start = bundle.members["weights.bin"].starts_at
    rows = bundle.unlock(KEY).graph().rows
    return [slice(start + row.offset, start + row.ends_at) for row in rows]


def changed(path: Path, content: bytes) -> Path:
    other = path.with_name("changed.mlgb")
    other.write_bytes(content)
    return other


def refused(path: Path) -> None:
    with pytest.raises(BundleError) as refusal:
        parts(opened(path))
    assert exit_code_of(refusal.value) == 20


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("tensor", [0, 1])
def test_a_flipped_bit_in_any_tensor_is_refused(
    tensor: int, bit: int, tmp_path: Path
) -> None:
    bundle = exported(tmp_path)
    content = bytearray((tmp_path / "m.mlgb").read_bytes())
    place = weights_of(bundle)[tensor]
    content[place.stop - 1] ^= 1 << bit
    refused(changed(tmp_path / "m.mlgb", bytes(content)))


def test_two_tensors_swapped_are_refused(tmp_path: Path) -> None:
    made = models.linear()
    made.graph.initializer[1].CopyFrom(models.initializer("b", models.weights(8, 8)))
    source = written(tmp_path / "m.onnx", made)
    export_file(source, KEY, tmp_path / "m.mlgb", example={"x": np.ones((8, 8), "f4")})
    one, other = weights_of(opened(tmp_path / "m.mlgb"))
    content = bytearray((tmp_path / "m.mlgb").read_bytes())
    content[one], content[other] = content[other], content[one]
    refused(changed(tmp_path / "m.mlgb", bytes(content)))


def test_a_tensor_of_another_file_of_the_key_is_refused(tmp_path: Path) -> None:
    one, other = exported(tmp_path, "one"), exported(tmp_path, "other")
    content = bytearray((tmp_path / "one.mlgb").read_bytes())
    foreign = (tmp_path / "other.mlgb").read_bytes()
    content[weights_of(one)[0]] = foreign[weights_of(other)[0]]
    refused(changed(tmp_path / "one.mlgb", bytes(content)))


def test_the_unchanged_file_is_taken(tmp_path: Path) -> None:
    """Without this, the three refusals above could be of something else."""
    exported(tmp_path)
    content = (tmp_path / "m.mlgb").read_bytes()
    assert len(parts(opened(changed(tmp_path / "m.mlgb", content)))[1]) == 2


def test_two_exports_share_no_byte_of_their_weights(tmp_path: Path) -> None:
    one, other = exported(tmp_path, "one"), exported(tmp_path, "other")
    files = [(tmp_path / f"{name}.mlgb").read_bytes() for name in ("one", "other")]
    for place, same_place in zip(weights_of(one), weights_of(other), strict=True):
        assert files[0][place] != files[1][same_place]


def test_nothing_is_written_over_or_left_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "m.onnx", models.linear())
    out = tmp_path / "out" / "m.mlgb"
    out.parent.mkdir()
    monkeypatch.setattr(
        "mlguard.foreign.bundle.np.array_equal", lambda *_: False, raising=True
    )
    with pytest.raises(ParityError, match="differs from what was written"):
        export_file(source, KEY, out)
    assert os.listdir(out.parent) == []
    monkeypatch.undo()
    out.write_text("mine")
    with pytest.raises(OutputExists):
        export_file(source, KEY, out)
    assert out.read_text() == "mine"


def test_a_graph_beyond_the_limits_is_refused_as_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "m.onnx", models.with_branches())
    monkeypatch.setattr("mlguard.bundle.graph_limits.MAX_NODES", 3)
    with pytest.raises(
        ModelFileError, match=r"more than 3 nodes.*a bundle cannot"
    ) as refusal:
        export_file(source, KEY, tmp_path / "m.mlgb")
    assert exit_code_of(refusal.value) == 40
    assert sorted(os.listdir(tmp_path)) == ["m.onnx"]


IMAGE = """
licence = "CC-BY-4.0"
[image]
input = "x"
layout = "NCHW"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
size = [64, 64]
resize = {rule = "pad", multiple = 16}
[task]
name = "segmentation"
output = "y"
stride = 4
class_names = ["road", "sky"]
"""


def about(folder: Path, text: str) -> About:
    (folder / "about.toml").write_text(text)
    return read_about(folder / "about.toml")


def test_what_the_owner_says_stands_in_the_manifest(tmp_path: Path) -> None:
    said = about(tmp_path, IMAGE)
    source = written(tmp_path / "m.onnx", models.segmenter())
    export_file(source, KEY, tmp_path / "m.mlgb", about=said)
    manifest = opened(tmp_path / "m.mlgb").manifest
    assert manifest.image == said.image
    assert manifest.task == said.task
    assert manifest.task is not None
    assert manifest.task.stride == 4
    assert manifest.licence == "CC-BY-4.0"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "segmentation"', 'name = "classification"'),
        ('["road", "sky"]', '["road", "sky", "car"]'),
    ],
)
def test_a_task_that_the_output_is_no_answer_of_is_refused(
    old: str, new: str, tmp_path: Path
) -> None:
    text = IMAGE.replace(old, new)
    if "classification" in text:
        text = text.replace("stride = 4\n", "")
    source = written(tmp_path / "m.onnx", models.segmenter())
    with pytest.raises(ModelFileError, match=r"output 'y' has the shape \[-1, 2"):
        export_file(source, KEY, tmp_path / "m.mlgb", about=about(tmp_path, text))
    assert not (tmp_path / "m.mlgb").exists()


@pytest.mark.parametrize(
    ("old", "new", "fits"),
    [
        ("", "", True),
        ("[64, 64]", "[96, 64]", False),
        ("NCHW", "NHWC", False),
        ("pad", "crop", False),
    ],
)
def test_an_image_is_of_the_size_that_the_model_takes(
    old: str, new: str, fits: bool, tmp_path: Path
) -> None:
    """Where it takes one only; another was exported, and answered something else."""
    graph = models.graph(
        [models.node("Conv", ["x", "w"], ["y"], strides=[4, 4])],
        [models.value("x", ["N", 3, 64, 64])],
        [models.value("y", ["N", 2, 16, 16])],
        [models.initializer("w", models.weights(2, 3, 4, 4))],
    )
    source = written(tmp_path / "m.onnx", models.model(graph))
    text = IMAGE.replace(old, new) if old else IMAGE
    out = tmp_path / "m.mlgb"
    if fits:
        export_file(source, KEY, out, about=about(tmp_path, text))
        return
    expected = r"needs a shorter_side" if new == "crop" else r"\[-1, 3, 64, 64\], but"
    with pytest.raises(ModelFileError, match=expected):
        export_file(source, KEY, out, about=about(tmp_path, text))
    assert not out.exists()


@pytest.mark.parametrize("field", ["mean", "std", "input", "size"])
def test_nothing_is_assumed_of_an_image(field: str, tmp_path: Path) -> None:
    left = "\n".join(
        line for line in IMAGE.splitlines() if not line.startswith(f"{field} =")
    )
    with pytest.raises(ModelFileError, match=rf"image\.{field}: Field required"):
        about(tmp_path, left)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[image", "is not TOML"),
        ("[image]\nmoan = 1", "image.moan: Extra.*|image.mean: Field required"),
        ("[task]\nname = 'poetry'", "task.name"),
        ("licence = 2020-01-01", "is not TOML"),
        (
            IMAGE.replace("[0.229, 0.224, 0.225]", "[1, 1]"),
            "one number for each channel",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(text: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=match):
        about(tmp_path, text)


@pytest.mark.parametrize(("old", "new"), [('"x"', '"z"'), ('"y"', '"z"')])
def test_what_does_not_fit_the_model_is_refused(
    old: str, new: str, tmp_path: Path
) -> None:
    said = about(tmp_path, IMAGE.replace(old, new))
    source = written(tmp_path / "m.onnx", models.linear())
    with pytest.raises(ModelFileError, match=r"'z' is not an (in|out)put"):
        export_file(source, KEY, tmp_path / "m.mlgb", about=said)
    assert not (tmp_path / "m.mlgb").exists()


@pytest.mark.parametrize(("stride", "fits"), [(4, True), (1, False), (8, False)])
def test_a_stride_that_is_not_the_model_s_is_refused(
    stride: int, fits: bool, tmp_path: Path
) -> None:
    graph = models.graph(
        [models.node("Conv", ["x", "w"], ["y"], strides=[4, 4])],
        [models.value("x", ["N", 3, "H", "W"])],
        [models.value("y", ["N", 2, "h", "w"])],
        [models.initializer("w", models.weights(2, 3, 4, 4))],
    )
    source = written(tmp_path / "m.onnx", models.model(graph))
    said = f"""[image]
    input = "x"
    channels = 3
    mean = [0.0, 0.0, 0.0]
    std = [1.0, 1.0, 1.0]
    size = [64, 64]
    [task]
    name = "segmentation"
    output = "y"
    stride = {stride}
    class_names = ["a", "b"]
    """
    if fits:
        export_file(source, KEY, tmp_path / "m.mlgb", about=about(tmp_path, said))
        return
    with pytest.raises(ModelFileError, match=f"task.stride is {stride}, but an image"):
        export_file(source, KEY, tmp_path / "m.mlgb", about=about(tmp_path, said))
    assert not (tmp_path / "m.mlgb").exists()


def test_a_model_folder_that_moved_is_exported_alike(tmp_path: Path) -> None:
    exported(tmp_path)
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "m.onnx", tmp_path / "moved" / "m.onnx")
    done = export_file(tmp_path / "moved/m.onnx", KEY, tmp_path / "again.mlgb")
    assert done.size_bytes == (tmp_path / "m.mlgb").stat().st_size
