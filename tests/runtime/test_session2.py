"""Running bundles of format 2: any tensors, any types, images of every kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mlguard.bundle import (
    Facts2,
    FileOwner,
    ImageFacts,
    Model2,
    ResizeFacts,
    SealFacts2,
    Tensor2,
    bundle2_bytes,
    bundle2_of,
    write_bundle2,
)
from mlguard.errors import (
    BundleError,
    MalformedBundle,
    ProviderError,
    ShapeError,
    TamperedBundle,
    WrongKey,
)
from mlguard.runtime import Session
from mlguard.runtime.options import Compute
from mlguard.sealing import PlainTensor
from tests.bundles import KEY, OPSET, OTHER_KEY, images
from tests.bundles2 import (
    FREE,
    SUBKEYS,
    convolution_graph,
    facts2,
    graph_of,
    image_facts,
    model2,
    outside,
    shuffled,
    small2,
    task_facts,
)
from tests.runtime.test_session import expected_logits

value = helper.make_tensor_value_info


def opened(model: Model2, **options: object) -> Session:
    data = bundle2_bytes(model, FileOwner.of(SUBKEYS), name="x.mlgb")
    return Session(bundle2_of(data, name="x.mlgb"), KEY, **options)


def tensors_model(
    nodes: list, takes: list, gives: list, weights: dict, **about: object
) -> Model2:
    """A model of any tensors, its weights outside."""
    placed = [outside(name, *given) for name, given in weights.items()]
    opset = about.pop("opset", OPSET)
    graph = graph_of(nodes, takes, gives, [slot for slot, _ in placed], opset=opset)
    facts = {"image": None, "task": None, "opsets": {"": opset}} | about
    return Model2(facts2(**facts), graph, [data for _, data in placed])


@pytest.mark.parametrize(
    "seal", [SealFacts2(), SealFacts2(graph=False, weights=False)], ids=str
)
@pytest.mark.parametrize("methods", [("shf",), ("np", "shf", "ffx")], ids="+".join)
@pytest.mark.parametrize("size", [(16, 16), (17, 31)])
def test_the_right_key_gives_the_models_logits(
    seal: SealFacts2, methods: tuple[str, ...], size: tuple[int, int]
) -> None:
    session = Session(small2(seal=seal, image=shuffled(8, methods)), KEY)
    pixels = images(2, 3, *size)
    logits = session.logits(pixels)
    wanted = expected_logits(pixels, methods, 8)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    np.testing.assert_array_equal(session.predict(pixels), logits.argmax(1))
    assert session.predict(pixels).dtype == np.uint8


def test_a_file_is_opened_by_its_path(tmp_path: Path) -> None:
    write_bundle2(tmp_path / "x.mlgb", model2(), SUBKEYS)
    session = Session.open(tmp_path / "x.mlgb", KEY, threads=1, inter_threads=1)
    assert session.predict(images(1, 3, 5, 7)).shape == (1, 5, 7)
    with pytest.raises(WrongKey, match="made for key"):
        Session.open(tmp_path / "x.mlgb", OTHER_KEY)
    assert [one.name for one in tmp_path.iterdir()] == ["x.mlgb"]


def test_with_the_key_the_model_is_the_plain_one_bit_for_bit() -> None:
    graph, tensors = convolution_graph()
    options = onnxruntime.SessionOptions()
    arrays = [np.asarray(one.data) for one in tensors]
    options.add_external_initializers(
        [one.name for one in tensors],
        [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays],
    )
    plain = onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"]
    )
    feed = {"pixels": np.random.default_rng(0).normal(size=(2, 3, 9, 8)).astype("f4")}
    (expected,) = plain.run(["logits"], feed)
    for bundle in (small2(), small2(image=shuffled())):
        bare = Session(bundle, KEY, bare=True)
        assert [one.name for one in bare.inputs] == ["pixels"]
        np.testing.assert_array_equal(bare.run(feed)["logits"], expected)


def normalized(pixels: np.ndarray, about: ImageFacts) -> np.ndarray:
    """What numpy makes of 8-bit pixels (N, C, …)."""
    column = (-1, *(1 for _ in about.size))
    low, high = about.range
    mean, std = (np.array(v).reshape(column) for v in (about.mean, about.std))
    return (pixels / 255 * (high - low) + low - mean) / std


IMAGES = {
    "RGB": image_facts(),
    "BGR": image_facts(colours="BGR", range=(0.0, 255.0), mean=(104.0, 117.0, 124.0)),
    "grey": image_facts(colours="grey", channels=1, mean=(0.5,), std=(0.5,)),
    "five": image_facts(
        colours="channels", channels=5, mean=(0.1,) * 5, std=(2.0,) * 5
    ),
    "NHWC": image_facts(layout="NHWC"),
    "volume": image_facts(
        layout="NCDHW",
        colours="grey",
        channels=1,
        mean=(0.0,),
        std=(1.0,),
        size=(4,) * 3,
    ),
    "-1 to 1": image_facts(range=(-1.0, 1.0), mean=(0.0,) * 3, std=(1.0,) * 3),
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_images_of_every_kind_become_what_the_bundle_says(
    kind: str, element: int
) -> None:
    about, number = IMAGES[kind], len(IMAGES[kind].layout)
    datatype = "FP32" if element == TensorProto.FLOAT else "FP16"
    free = [f"d{axis}" for axis in range(number)]
    model = tensors_model(
        [helper.make_node("Identity", ["pixels"], ["seen"])],
        [value("pixels", element, free)],
        [value("seen", element, free)],
        {},
        inputs=(Tensor2(name="pixels", datatype=datatype, shape=(-1,) * number),),
        outputs=(Tensor2(name="seen", datatype=datatype, shape=(-1,) * number),),
        image=about,
    )
    pixels = np.random.default_rng(1).integers(
        0, 256, (2, about.channels, *range(6, 4 + number)), dtype=np.uint8
    )
    session = opened(model)
    seen = session.run({"images": pixels})["seen"]
    wanted = normalized(pixels, about)
    if about.layout.endswith("C"):
        wanted = np.moveaxis(wanted, 1, -1)
    atol = 1e-4 if datatype == "FP32" else 2.0
    np.testing.assert_allclose(seen, wanted, rtol=2e-3, atol=atol)
    assert session.inputs[0].datatype == "UINT8"


def test_predict_takes_rgb_and_turns_it_round_for_a_model_of_bgr() -> None:
    same = {"mean": (0.4,) * 3, "std": (0.3,) * 3}
    rgb = Session(small2(image=image_facts(**same)), KEY)
    bgr = Session(small2(image=image_facts(colours="BGR", **same)), KEY)
    pixels = images(1, 3, 8, 8)
    turned = np.ascontiguousarray(pixels[:, ::-1])
    np.testing.assert_array_equal(bgr.logits(turned), rgb.logits(pixels))
    assert np.abs(bgr.logits(pixels) - rgb.logits(pixels)).max() > 0.1


@pytest.mark.parametrize("rule", ["stretch", "crop"])
def test_masks_of_scaled_images_have_the_images_size(rule: str) -> None:
    resize = ResizeFacts(rule=rule, shorter_side=40 if rule == "crop" else None)
    session = Session(small2(image=image_facts(size=(32, 24), resize=resize)), KEY)
    pixels = images(2, 3, 50, 70)
    assert session.predict(pixels).shape == (2, 50, 70)
    assert session.logits(pixels).shape == (2, 4, 50, 70)
    same = images(1, 3, 32, 24)
    padded = Session(small2(), KEY)
    np.testing.assert_array_equal(session.predict(same), padded.predict(same))


def test_scores_that_stand_apart_are_enlarged() -> None:
    pool = helper.make_node(
        "AveragePool", ["pixels"], ["small"], kernel_shape=[4, 4], strides=[4, 4]
    )
    model = tensors_model(
        [pool, helper.make_node("Conv", ["small", "w"], ["logits"])],
        [value("pixels", 1, FREE)],
        [value("logits", 1, ["N", 4, "h", "w"])],
        {"w": (np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype("f4"),)},
        image=image_facts(resize=ResizeFacts(multiple=4)),
        task=task_facts(stride=4),
    )
    session, pixels = opened(model), images(2, 3, 21, 30)
    logits = session.logits(pixels)
    assert logits.shape == (2, 4, 21, 30)
    np.testing.assert_array_equal(session.predict(pixels), logits.argmax(1))
    raw = session.run({"images": np.pad(pixels, [(0, 0)] * 2 + [(0, 3), (0, 2)])})
    assert raw["logits"].shape == (2, 4, 6, 8)


def test_more_classes_than_a_byte_counts_are_told_apart_of_any_scores() -> None:
    """Of integers there is no ArgMax in the graph, and classes are found outside."""
    count = 300
    model = tensors_model(
        [
            helper.make_node("Conv", ["pixels", "w", "b"], ["real"]),
            helper.make_node("Cast", ["real"], ["logits"], to=6),
        ],
        [value("pixels", 1, FREE)],
        [value("logits", 6, ["N", count, "H", "W"])],
        {
            "w": (np.zeros((count, 3, 1, 1), np.float32),),
            "b": (np.arange(count, dtype=np.float32),),
        },
        image=image_facts(),
        outputs=(Tensor2(name="logits", datatype="INT32", shape=(-1, count, -1, -1)),),
        task=task_facts(class_names=tuple(map(str, range(count))), ignore_index=None),
    )
    masks = opened(model).predict(images(1, 3, 64, 64))
    assert masks.dtype == np.uint16
    assert set(masks.flat) == {count - 1}


def test_states_scalars_and_several_outputs_go_in_and_come_out() -> None:
    tensor = Tensor2
    model = tensors_model(
        [
            helper.make_node("Add", ["state", "w"], ["next"]),
            helper.make_node("Mul", ["next", "rate"], ["scaled"]),
            helper.make_node("Shape", ["state"], ["sizes"]),
        ],
        [value("state", 1, ["n", 3]), value("rate", 1, [])],
        [
            value("next", 1, ["n", 3]),
            value("scaled", 1, ["n", 3]),
            value("sizes", 7, [2]),
        ],
        {"w": (np.arange(3, dtype=np.float32),)},
        inputs=(
            tensor(name="state", datatype="FP32", shape=(-1, 3)),
            tensor(name="rate", datatype="FP32", shape=()),
        ),
        outputs=(
            tensor(name="next", datatype="FP32", shape=(-1, 3)),
            tensor(name="scaled", datatype="FP32", shape=(-1, 3)),
            tensor(name="sizes", datatype="INT64", shape=(2,)),
        ),
    )
    session = opened(model)
    found = session.run({"state": np.ones((2, 3), "f4"), "rate": np.float32(2)})
    np.testing.assert_array_equal(found["scaled"], [[2, 4, 6]] * 2)
    np.testing.assert_array_equal(found["sizes"], [2, 3])
    with pytest.raises(ShapeError, match="expected tensors state, rate, got state"):
        session.run({"state": np.ones((2, 3), "f4")})
    for wrong in (np.ones((2, 3)), np.ones((2, 4), "f4"), np.ones(3, "f4")):
        with pytest.raises(
            ShapeError, match=r"'state': expected FP32 of \[-1, 3\], got"
        ):
            session.run({"state": wrong, "rate": np.float32(2)})
    with pytest.raises(BundleError, match="has no images, so there is nothing to"):
        session.predict(images(1, 3, 8, 8))


ODD = {
    TensorProto.BFLOAT16: np.array([0x3F80, 0x4000, 0x4040], np.uint16),
    TensorProto.FLOAT8E4M3FN: np.array([0x38, 0x40, 0x44], np.uint8),
    TensorProto.INT4: np.array([0x21, 0x03], np.uint8),
    TensorProto.UINT4: np.array([0x21, 0x03], np.uint8),
    TensorProto.FLOAT16: np.array([1, 2, 3], np.float16),
}
INT2 = getattr(TensorProto, "INT2", None)  # since onnx 1.20
if INT2 is not None:
    ODD[INT2] = np.array([0b11_10_01], np.uint8)


@pytest.mark.parametrize("kind", ODD, ids=TensorProto.DataType.Name)
def test_weights_of_types_that_numpy_does_not_know(kind: int) -> None:
    opset = 25 if kind == INT2 else 21
    slot, _ = outside("w", np.zeros(3, "f4"), kind=1)
    slot.data_type = kind
    graph = graph_of(
        [helper.make_node("Cast", ["w"], ["y"], to=1)],
        [],
        [value("y", 1, [3])],
        [slot],
        opset=opset,
    )
    facts = Facts2(
        inputs=(),
        outputs=(Tensor2(name="y", datatype="FP32", shape=(3,)),),
        opsets={"": opset},
    )
    model = Model2(facts, graph, [PlainTensor("w", kind, (3,), ODD[kind].tobytes())])
    signed = [1, -2, -1] if kind == INT2 else [1, 2, 3]
    np.testing.assert_array_equal(opened(model).run({})["y"], signed)


def test_tensors_of_types_that_numpy_does_not_know_go_in_and_come_out() -> None:
    brain = "BF16"
    model = tensors_model(
        [
            helper.make_node("Cast", ["x"], ["y"], to=1),
            helper.make_node("Identity", ["x"], ["z"]),
            helper.make_node("Cast", ["y"], ["q"], to=TensorProto.INT4),
        ],
        [value("x", 16, [3])],
        [value("y", 1, [3]), value("z", 16, [3]), value("q", 22, [3])],
        {},
        opset=21,
        inputs=(Tensor2(name="x", datatype=brain, shape=(3,)),),
        outputs=(
            Tensor2(name="y", datatype="FP32", shape=(3,)),
            Tensor2(name="z", datatype=brain, shape=(3,)),
            Tensor2(name="q", datatype="tensor(int4)", shape=(3,)),
        ),
    )
    found = opened(model).run({"x": ODD[TensorProto.BFLOAT16]})
    np.testing.assert_array_equal(found["y"], [1, 2, 3])
    np.testing.assert_array_equal(found["z"], ODD[TensorProto.BFLOAT16])
    np.testing.assert_array_equal(found["q"], [0x21, 0x03])


def test_texts_and_sequences_go_in_and_come_out() -> None:
    sequence = helper.make_tensor_sequence_value_info
    model = tensors_model(
        [
            helper.make_node("SequenceAt", ["s", "at"], ["one"]),
            helper.make_node("Identity", ["words"], ["said"]),
        ],
        [sequence("s", 1, None), value("at", 7, []), value("words", 8, ["n"])],
        [value("one", 1, None), value("said", 8, ["n"])],
        {},
        inputs=(
            Tensor2(name="s", datatype="seq(tensor(float))", shape=None),
            Tensor2(name="at", datatype="INT64", shape=()),
            Tensor2(name="words", datatype="BYTES", shape=(-1,)),
        ),
        outputs=(
            Tensor2(name="one", datatype="FP32", shape=None),
            Tensor2(name="said", datatype="BYTES", shape=(-1,)),
        ),
    )
    feed = {
        "s": [np.ones(2, "f4"), np.zeros(3, "f4")],
        "at": np.int64(1),
        "words": np.array(["a", "ß"], object),
    }
    found = opened(model).run(feed)
    np.testing.assert_array_equal(found["one"], np.zeros(3))
    assert found["said"].tolist() == ["a", "ß"]


def test_a_graph_that_does_not_do_what_the_manifest_says_is_refused() -> None:
    model = model2()
    for changes, words in (
        (
            {"outputs": (Tensor2(name="logits", datatype="FP16", shape=None),)},
            "of shape",
        ),
        (
            {"inputs": (Tensor2(name="other", datatype="FP32", shape=None),)},
            "no 'other'",
        ),
    ):
        changes |= {"image": None, "task": None}
        facts = facts2(**{"inputs": model.facts.inputs, **changes})
        with pytest.raises(MalformedBundle, match=words):
            opened(replace(model, facts=facts))


def test_an_opset_that_is_too_new_is_called_that_and_not_damage() -> None:
    model = tensors_model(
        [helper.make_node("Identity", ["pixels"], ["logits"])],
        [value("pixels", 1, FREE)],
        [value("logits", 1, FREE)],
        {},
        opset=99,
        outputs=(Tensor2(name="logits", datatype="FP32", shape=(-1, 3, -1, -1)),),
    )
    words = (
        f"needs opset 99 of ONNX; the installed onnxruntime {onnxruntime.__version__}"
    )
    with pytest.raises(ProviderError, match=words) as refusal:
        opened(model)
    assert "newer onnxruntime" in refusal.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"options": {"optimized_model_filepath": "out.onnx"}},
        {"options": {"enable_profiling": True}},
        {"options": {"ep.context_enable": "1"}},
        {"provider_options": {"trt_engine_cache_enable": "True"}},
        {"provider_options": {"cache_dir": "/tmp"}},
    ],
    ids=str,
)
def test_what_would_write_a_sealed_model_out_is_refused(
    options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="would write its model to a disk in the"):
        Session(small2(), KEY, compute=Compute(**options))
    assert list(tmp_path.iterdir()) == []
    if "optimized_model_filepath" in str(options):
        open_ = small2(seal=SealFacts2(graph=False, weights=False))
        Session(open_, KEY, compute=Compute(**options))  # nothing is lost there


def test_session_options_are_passed_on_and_unknown_ones_refused() -> None:
    given = {"graph_optimization_level": onnxruntime.GraphOptimizationLevel(0)}
    given |= {"session.intra_op.allow_spinning": "0"}
    compute = Compute(threads=3, inter_threads=2, options=given)
    made = compute.session_options()
    assert (made.intra_op_num_threads, made.inter_op_num_threads) == (3, 2)
    assert made.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    for wrong in ({"no_such": 1}, {"intra_op_num_threads": "many"}):
        with pytest.raises(ProviderError, match="session option"):
            Compute(options=wrong).session_options()
    with pytest.raises(ProviderError, match="expected 0 to 4096 threads, got -1"):
        Session(small2(), KEY, compute=Compute(threads=-1))


@pytest.mark.parametrize(
    ("says", "expected"),
    [("150000 100000", 1), ("50000 100000", 1), ("max 100000", 0), ("x", 0)],
)
def test_the_cpu_quota_of_a_container_is_respected(
    says: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(says + "\n")
    monkeypatch.setattr("mlguard.quota.QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr("mlguard.quota.OLD_QUOTA", tmp_path / "none")
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert Compute().session_options().intra_op_num_threads == expected


def test_a_changed_tensor_never_reaches_onnxruntime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytearray(bundle2_bytes(model2(), FileOwner.of(SUBKEYS), name="x"))
    bundle = bundle2_of(bytes(data), name="x")
    data[bundle.members["weights.bin"].starts_at + 100] ^= 4
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(
        TamperedBundle, match="tensor 'w' was changed after it was sealed"
    ):
        Session(bundle2_of(bytes(data), name="x"), KEY)


def test_the_plain_model_is_not_kept() -> None:
    session = Session(small2(seal=SealFacts2(graph=False)), KEY)
    assert session._session._model_bytes == b""
    assert session._graph.content == b""
