"""Fewer bits: the bundle computes as it says, and its manifest says what that costs."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mlguard.bundle import (
    Bundle2,
    FeatureMapFacts,
    PrecisionFacts,
    bundle2_of,
    glimpse_bundle,
)
from mlguard.cli.app import run as command
from mlguard.data import open_split
from mlguard.errors import MalformedBundle, ParityError, RunError
from mlguard.protect import Run, read_run
from mlguard.protect.export import Rounding, export_run
from mlguard.protect.export.precision import rounded
from mlguard.runtime import Session
from tests.bundles import convolution
from tests.bundles2 import small2_bytes
from tests.runs import KEY, small_run

COST = PrecisionFacts(kind="int8", images=3, agreement=0.5, before=0.25, after=None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(small_run(tmp_path_factory.mktemp("run") / "run").path)


def rounding(run: Run, kind: str) -> Rounding:
    train, test = (
        open_split(run.recipe.data, None, split, seed=run.recipe.train.seed)
        for split in ("train", "test")
    )
    return Rounding(kind, train, test)


def test_a_rounded_bundle_says_what_it_costs(run: Run, tmp_path: Path) -> None:
    out, asked = tmp_path / "few.mlgb", rounding(run, "int8")
    report = export_run(run, KEY, out, form=2, rounding=asked)
    bundle = glimpse_bundle(out)
    assert isinstance(bundle, Bundle2)
    cost = bundle.manifest.precision
    assert cost == report.rounded
    assert (cost.kind, cost.images) == ("int8", len(asked.scored))
    assert report.agreement > 0.999  # of the model before, with torch's
    images = np.stack([image for image, _ in asked.scored])
    masks = np.stack([mask for _, mask in asked.scored])
    found = Session.open(out, KEY).predict(images)
    task = asked.scored.task
    score = task.score_of(task.count(found, masks))
    assert cost.after == pytest.approx(score, abs=1e-4)


def two_layers() -> ModelProto:
    """Two convolutions and what is between them, as a graph of one input."""
    draw = np.random.default_rng(0)
    second = draw.normal(size=(4, 4, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "a"], ["between"], pads=[1] * 4),
        helper.make_node("Relu", ["between"], ["positive"]),
        helper.make_node("Conv", ["positive", "b"], ["logits"], pads=[1] * 4),
    ]
    free = ["N", 3, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "it",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, free)],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["N", 4, "H", "W"]
            )
        ],
        [
            numpy_helper.from_array(convolution(), "a"),
            numpy_helper.from_array(second, "b"),
        ],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def pixels(count: int = 4) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    return [draw.normal(size=(1, 3, 16, 24)).astype(np.float32) for _ in range(count)]


def logits(model: ModelProto, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(["logits"], {"pixels": image})[0]


@pytest.mark.parametrize(
    ("kind", "element", "limit"),
    [("fp16", TensorProto.FLOAT16, 0.01), ("int8", TensorProto.INT8, 0.1)],
)
def test_a_rounded_model_answers_nearly_the_same(
    kind: str, element: int, limit: float
) -> None:
    whole = two_layers()
    few = rounded(whole, kind, pixels())
    types = {one.data_type for one in few.graph.initializer if np.prod(one.dims) > 16}
    assert types == {element}
    image = pixels(5)[-1]
    before, after = logits(whole, image), logits(few, image)
    assert (before.dtype, after.dtype) == (np.float32, np.float32)
    difference = np.abs(before - after).max() / np.abs(before).max()
    assert 0 < difference < limit
    assert whole == two_layers()  # left as it was


def test_a_graph_that_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(ParityError, match="cannot be rounded to int8"):
        rounded(two_layers(), "int8", [])  # without images there are no ranges


def test_what_is_not_sealed_is_not_rounded(run: Run, tmp_path: Path) -> None:
    for options in ({"sealed": False}, {"form": 1}):
        with pytest.raises(RunError, match="a bundle of fp16 is sealed"):
            export_run(
                run,
                KEY,
                tmp_path / "it.mlgb",
                **({"form": 2} | options),
                rounding=rounding(run, "fp16"),
            )
    assert [*tmp_path.iterdir()] == []


def test_a_model_whose_feature_maps_are_permuted_is_not_rounded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = (FeatureMapFacts(layer="encoder.2", channels=16, signs=False),)
    place = "mlguard.protect.export.bundle.feature_maps_of"
    monkeypatch.setattr(place, lambda _: maps)
    out = tmp_path / "it.mlgb"
    with pytest.raises(RunError, match="the key permutes feature maps of this model"):
        export_run(run, KEY, out, form=2, rounding=rounding(run, "int8"))
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--data", "x"], "--data goes with --precision"),
        (["model.onnx", "--precision", "int8"], "go with a run"),
        (["model.pt2", "--data", "x"], "go with a run"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    run: Run, tmp_path: Path, capsys, monkeypatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(run.path)
    assert command(["export", *arguments, "--out", "it.mlgb"]) == 2
    assert said in capsys.readouterr().err


def test_the_manifest_has_the_field_or_not_and_never_null() -> None:
    bundle = bundle2_of(small2_bytes(precision=COST), name="it")
    assert bundle.manifest.precision == COST
    assert Session(bundle, KEY).manifest.precision == COST
    whole = bundle2_of(small2_bytes(), name="it")
    assert b"precision" not in whole.read("manifest.json")
    nothing = small2_bytes().replace(b'"outputs":', b'"precision":null,"outputs":')
    with pytest.raises(MalformedBundle):
        bundle2_of(nothing, name="it")
