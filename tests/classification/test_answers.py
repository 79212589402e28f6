"""A classifier's bundle, its session, and what `mlguard predict` writes of it."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mlguard.bundle import (
    Bundle2,
    FileOwner,
    Model2,
    TaskFacts,
    Tensor2,
    bundle2_bytes,
    bundle2_of,
    read_bundle,
)
from mlguard.bundle.manifest import parse_manifest
from mlguard.cli import opening, predict
from mlguard.errors import ImageError, MalformedBundle
from mlguard.protect import Run
from mlguard.protect.export import facts_of
from mlguard.runtime import Session, read_image
from tests import bundles
from tests.bundles2 import FREE, SUBKEYS, facts2, graph_of, outside
from tests.classification.conftest import KEY
from tests.images import CLASSES, class_image


@pytest.fixture(autouse=True)
def given_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "read_model_key", lambda *_, **__: KEY)


def test_the_manifest_says_that_it_classifies(bundle: Path) -> None:
    manifest = read_bundle(bundle).manifest
    assert manifest.task == "classification"
    assert manifest.class_names == CLASSES
    assert manifest.ignore_index is None
    assert manifest.outputs[0].shape == (-1, 3)


def test_a_session_gives_every_image_a_class(bundle: Path, pictures: Path) -> None:
    session = Session.open(bundle, KEY)
    folder = pictures / "test"
    images = np.concatenate([read_image(folder / name / "0.png") for name in CLASSES])[
        ..., :16, :16
    ]
    assert session.logits(images).shape == (3, 3)
    assert session.predict(images).tolist() == [0, 1, 2]
    assert session.predict(images).dtype == np.int64


def test_images_of_any_size_are_padded_and_nothing_is_cut(bundle: Path) -> None:
    session = Session.open(bundle, KEY)
    image = np.asarray(class_image(2, seed=5, size=(17, 30)))
    images = image.transpose(2, 0, 1)[None]
    padded = np.pad(images, ((0, 0), (0, 0), (0, 3), (0, 2)), mode="edge")
    np.testing.assert_array_equal(session.logits(images), session.logits(padded))


def classifier(classes: int) -> Bundle2:
    """A model that says 999 of what is red and 256 of what is green."""
    weights = np.zeros((3, classes), np.float32)
    weights[0, 999] = weights[1, 256] = 1
    slot, data = outside("w", weights)
    graph = graph_of(
        [
            helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        ],
        [helper.make_tensor_value_info("pixels", 1, FREE)],
        [helper.make_tensor_value_info("logits", 1, ["N", classes])],
        [slot, numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    names = tuple(f"class {number}" for number in range(classes))
    task = TaskFacts(name="classification", output="logits", class_names=names)
    scores = Tensor2(name="logits", datatype="FP32", shape=(-1, classes))
    model = Model2(facts2(outputs=(scores,), task=task), graph, [data])
    content = bundle2_bytes(model, FileOwner.of(SUBKEYS), name="x")
    return bundle2_of(content, name="x")


def test_every_class_of_a_large_model_can_be_answered() -> None:
    """Class ids above 255 would not fit into the byte of a mask."""
    session, images = (
        Session(classifier(1000), bundles.KEY),
        np.zeros((2, 3, 8, 8), np.uint8),
    )
    images[0, 0] = images[1, 1] = 255  # red is 999, green 256
    assert session.predict(images).tolist() == [999, 256]


def answers(folder: Path) -> tuple[list[dict], list[dict]]:
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "predictions.json").read_text())


def test_predict_writes_a_table_of_classes(
    bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [pictures / "test" / name for name in CLASSES]
    predict.predict(bundle, folders, key="acme", out=tmp_path / "out", resize=True)
    rows, entries = answers(tmp_path / "out")
    assert len(rows) == len(entries) == 33
    right = [Path(row["image"]).parent.name == row["class"] for row in rows]
    assert np.mean(right) > 0.9
    first = entries[0]
    assert first["image"] == rows[0]["image"] == str(folders[0] / "0.png")
    shares = [one["probability"] for one in first["probabilities"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert first["class"] == first["probabilities"][0]["class"] == rows[0]["class"]
    assert "wrote the classes of 33 of 33 images" in capsys.readouterr().out


def test_an_image_that_cannot_be_read_does_not_stop_the_others(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    class_image(0, seed=1, size=(16, 16)).save(photos / "b.png")
    (photos / "a.png").write_text("no picture")
    with pytest.raises(ImageError, match="refused 1 of 2 images"):
        predict.predict(bundle, [photos], key="acme", out=tmp_path / "out")
    rows, _ = answers(tmp_path / "out")
    assert [Path(row["image"]).name for row in rows] == ["b.png"]


def test_images_far_from_the_size_of_training_are_named(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class_image(0, seed=1, size=(64, 64)).save(tmp_path / "large.png")
    image = tmp_path / "large.png"
    predict.predict(bundle, [image], key="acme", out=tmp_path / "out")
    assert "so expect poor answers; --resize" in capsys.readouterr().err


def test_an_overlay_of_a_class_is_refused(bundle: Path, pictures: Path) -> None:
    with pytest.raises(ImageError, match=r"--overlay draws masks, but .* one class"):
        predict.predict(
            bundle, [pictures / "test/red"], key="acme", out=pictures, overlay=True
        )


def test_two_images_of_one_stem_are_two_rows(bundle: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "a.bmp"]
    for path in paths:
        class_image(0, seed=1, size=(16, 16)).save(path)
    predict.predict(bundle, paths, key="acme", out=tmp_path / "out")
    assert len(answers(tmp_path / "out")[0]) == 2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("ignore_index", 255, "ignore_index of a classification must be null"),
        ("task", "segmentation", "ignore_index of a segmentation must be a number"),
        ("task", "detection", "Input should be 'segmentation' or 'classification'"),
    ],
)
def test_a_manifest_of_two_minds_is_refused(
    bundle: Path, field: str, value: object, words: str
) -> None:
    fields = json.loads(read_bundle(bundle).manifest.to_bytes()) | {field: value}
    with pytest.raises(MalformedBundle, match=words):
        parse_manifest(json.dumps(fields).encode(), name="small")


def test_outputs_of_pixels_are_refused_for_a_classification(bundle: Path) -> None:
    fields = json.loads(read_bundle(bundle).manifest.to_bytes())
    fields["outputs"][0]["shape"] = [-1, 3, -1, -1]
    with pytest.raises(MalformedBundle, match="inputs and outputs differ"):
        parse_manifest(json.dumps(fields).encode(), name="small")


def test_a_graph_that_answers_otherwise_than_the_manifest_says_is_refused() -> None:
    """The small graph of other tests scores pixels."""
    wrong = bundles.small_bundle(task="classification", ignore_index=None)
    with pytest.raises(MalformedBundle, match=r"gives logits of shape .*'H', 'W'"):
        Session(wrong, bundles.KEY)
    assert Session(bundles.small_bundle(), bundles.KEY).provider


def test_the_graph_has_one_output_of_scores(bundle: Path, run: Run) -> None:
    graph = onnx.load_from_string(read_bundle(bundle).model).graph
    (output,) = graph.output
    sizes = output.type.tensor_type.shape.dim
    assert [size.dim_value for size in sizes] == [0, 3]
    assert facts_of(run).task == "classification"
