"""Running a bundle: the right key predicts, everything else is refused by name."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlguard.bundle import TransformFacts, make_bundle, write_bundle
from mlguard.bundle.bundle import parse_bundle
from mlguard.engine import onnxruntime
from mlguard.errors import (
    MalformedBundle,
    ProviderError,
    ShapeError,
    TamperedBundle,
    WrongKey,
)
from mlguard.keys import ModelKey
from mlguard.runtime import Session, providers
from mlguard.runtime.one_graph import VALUES
from mlguard.runtime.providers import load_graph
from mlguard.transforms import derive_transform, pad_to_blocks
from tests.bundles import (
    CLASSES,
    KEY,
    OTHER_KEY,
    PROTECTION_ID,
    convolution,
    facts,
    images,
    model_graph,
    preprocess_graph,
    small_bundle,
)

METHODS = [("shf",), ("np",), ("ffx",), ("np", "shf", "ffx")]


def expected_logits(
    pixels: np.ndarray, methods: tuple[str, ...], block_size: int, key: ModelKey = KEY
) -> np.ndarray:
    """The small bundle, written out in numpy."""
    transform = derive_transform(methods, key.for_model(PROTECTION_ID), block_size)
    height, width = pixels.shape[2:]
    values = transform.apply(pad_to_blocks(pixels, block_size)).astype(np.float64)
    mean, std = (np.array(v).reshape(3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.3, 1)))
    normal = np.pad((values - mean) / std, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(normal, (3, 3), axis=(2, 3))
    logits = np.einsum("nchwij,kcij->nkhw", windows, convolution().astype(np.float64))
    return logits[:, :, :height, :width]


@pytest.mark.parametrize("methods", METHODS, ids="+".join)
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1, 1)])
def test_the_right_key_gives_the_models_logits(
    methods: tuple[str, ...], size: tuple[int, int]
) -> None:
    transform = TransformFacts(methods=methods, block_size=8)
    session = Session(small_bundle(transform=transform), KEY)
    pixels = images(2, 3, *size)
    logits = session.logits(pixels)
    wanted = expected_logits(pixels, methods, 8)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    np.testing.assert_array_equal(session.predict(pixels), logits.argmax(1))
    assert logits.shape == (2, CLASSES, *size)


def test_another_key_would_give_other_logits() -> None:
    """Also proves that the test above can fail."""
    pixels = images(1, 3, 16, 16)
    logits = Session(small_bundle(), KEY).logits(pixels)
    other = expected_logits(pixels, ("shf",), 4, OTHER_KEY)
    assert np.abs(logits - other).max() > 1


def test_masks_are_bytes_one_a_pixel() -> None:
    masks = Session(small_bundle(), KEY).predict(images(3, 3, 10, 20))
    assert (masks.shape, masks.dtype) == ((3, 10, 20), np.uint8)
    assert len(np.unique(masks)) > 1


def test_a_wrong_key_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "acme.mlgb"
    write_bundle(path, small_bundle())
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    words = f"acme.mlgb was made for key {KEY.key_id}, got key {OTHER_KEY.key_id}"
    with pytest.raises(WrongKey, match=words):
        Session.open(path, OTHER_KEY)


def test_an_edited_manifest_never_reaches_onnxruntime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = small_bundle()
    data = bundle.to_bytes()
    edited = bundle.manifest.model_copy(update={"licence": "free"})
    forged = replace(bundle, manifest=edited)
    read = parse_bundle(io.BytesIO(forged.to_bytes()), len(data), name="forged")
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(TamperedBundle, match=r"forged: manifest\.json was changed"):
        Session(read, KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 3, 8, 8), np.float32),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 1, 8, 8), np.uint8),
        np.zeros((0, 3, 8, 8), np.uint8),
        np.zeros((1, 3, 0, 8), np.uint8),
    ],
    ids=lambda array: f"{array.shape} {array.dtype}",
)
def test_what_is_not_a_batch_of_images_is_refused(wrong: np.ndarray) -> None:
    session = Session(small_bundle(), KEY)
    with pytest.raises(ShapeError, match=r"expected images \(N, 3, H, W\) uint8, got"):
        session.predict(wrong)


def test_the_provider_is_the_cpu_unless_asked_otherwise() -> None:
    assert Session(small_bundle(), KEY).provider == "CPUExecutionProvider"


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ProviderError, match="no provider 'tpu' is installed; known are"
    ):
        Session(small_bundle(), KEY, provider="tpu")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> list[list[object]]:
    """An onnxruntime that offers CUDA and then silently runs on the CPU."""
    real, asked = onnxruntime.InferenceSession, []

    def session(graph: bytes, options: object, *, providers: list, **rest: object):
        asked.append(providers)
        return real(graph, options, providers=["CPUExecutionProvider"], **rest)

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("no libcudnn"))
    return asked


def test_a_silent_fall_to_the_cpu_is_refused(
    no_gpu: list, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProviderError, match="CUDAExecutionProvider cannot be used"):
        Session(small_bundle(), KEY, provider="cuda")
    assert capfd.readouterr() == ("", "")


def test_auto_takes_the_cpu_where_cuda_does_not_work(no_gpu: list) -> None:
    session = Session(small_bundle(), KEY, provider="auto")
    assert session.provider == "CPUExecutionProvider"
    assert session.predict(images(1, 3, 4, 4)).shape == (1, 4, 4)


def test_cuda_is_asked_for_without_tf32(no_gpu: list) -> None:
    Session(small_bundle(), KEY, provider="auto")
    assert no_gpu[0] == [("CUDAExecutionProvider", {"use_tf32": "0"})]


def test_this_machines_cuda_works_or_is_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime without CUDA")
    with contextlib.suppress(ProviderError):
        session = Session(small_bundle(), KEY, provider="cuda")
        assert session.provider == "CUDAExecutionProvider"
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_computes_wrongly_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = providers.run_graph

    def off_by_one(session: object, output: str, feed: np.ndarray) -> np.ndarray:
        return real(session, output, feed) + (output == VALUES)

    monkeypatch.setattr("mlguard.runtime.selftest.run_graph", off_by_one)
    with pytest.raises(MalformedBundle, match=r"self-test of preprocess\.onnx failed"):
        Session(small_bundle(), KEY)


def test_an_owner_cannot_ship_a_graph_of_another_transform() -> None:
    given = facts()
    subkeys = KEY.for_model(PROTECTION_ID)
    other = preprocess_graph(facts(transform={"methods": ("np",), "block_size": 4}))
    bundle = make_bundle(
        given, preprocess=other, model=model_graph(), subkeys=subkeys, name="x"
    )
    words = r"expected key slots \['shf.order'\], got \['np.mask'\]"
    with pytest.raises(MalformedBundle, match=words):
        Session(bundle, KEY)


def test_a_graph_without_its_key_does_not_load() -> None:
    with pytest.raises(MalformedBundle, match="preprocess cannot be loaded"):
        load_graph(preprocess_graph(facts()), provider="cpu", name="preprocess")


def test_a_slot_of_another_shape_is_refused_without_showing_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    secret = np.arange(1000, 1047)
    with pytest.raises(MalformedBundle, match="preprocess cannot be loaded") as refusal:
        load_graph(
            preprocess_graph(facts()),
            provider="cpu",
            name="preprocess",
            slots={"shf.order": secret},
        )
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    assert "1003" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_onnxruntime_does_not_take_is_malformed() -> None:
    node = helper.make_node("NoSuchOperator", ["pixels"], ["logits"])
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [tensor("pixels", TensorProto.FLOAT, ["N"])],
        [tensor("logits", TensorProto.FLOAT, ["N"])],
    )
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    given = facts()
    bundle = make_bundle(
        given,
        preprocess=preprocess_graph(given),
        model=model.SerializeToString(),
        subkeys=KEY.for_model(PROTECTION_ID),
        name="x",
    )
    with pytest.raises(MalformedBundle, match=r"x: model\.onnx cannot be loaded: "):
        Session(bundle, KEY)


def test_running_out_of_memory_is_a_refusal_with_a_hint(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = load_graph(model_graph(), provider="cpu", name="model")
    feed = np.zeros((1, 4, 8, 8), np.float32)  # 4 channels: any failure will do
    with pytest.raises(ProviderError, match="cannot run on 1×4×8×8 pixels") as refusal:
        providers.run_graph(session, "logits", feed)
    assert "smaller images" in refusal.value.hint
    assert capfd.readouterr() == ("", "")


def test_opening_writes_nothing_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "small.mlgb", small_bundle())
    monkeypatch.chdir(tmp_path)
    Session.open(Path("small.mlgb"), KEY).predict(images(1, 3, 8, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["small.mlgb"]
