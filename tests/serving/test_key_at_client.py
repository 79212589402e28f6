"""The key at the client, the model at a host without it: the session's masks."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from keystore import Identity, Keystore
from mlguard.bundle import bundle2_of, write_bundle
from mlguard.errors import BundleError, OptionError, RemoteError, ShapeError, WrongKey
from mlguard.issuing import Conditions
from mlguard.runtime import Endpoint, Preprocess, Session, read_image
from mlguard.serving import Served, write_repository
from mlguard.serving.host_model import TritonPythonModel
from tests.bundles import (
    KEY,
    OTHER_KEY,
    images,
    keyed_bundle,
    small_bundle,
)
from tests.bundles2 import (
    LOGITS,
    PIXELS,
    image_facts,
    shuffled,
    small2_bytes,
    task_facts,
)
from tests.grants.people import HOSPITAL
from tests.issuing.files import TODAY, issued
from tests.runtime.oip_server import Host, host

ROOT = Path(__file__).parents[2]
ODD = images(2, 3, 13, 22)  # padded to whole blocks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's repository, and a client's files, which are sealed."""
    path = tmp_path_factory.mktemp("client")
    write_bundle(path / "host.mlgb", small_bundle())
    write_bundle(path / "client1.mlgb", small_bundle(sealed=True))
    (path / "client2.mlgb").write_bytes(small2_bytes(image=shuffled()))
    served = Served("acme", key_at="client")
    write_repository(path / "host.mlgb", path / "models", served)
    return path


def test_the_repository_holds_the_model_and_nothing_of_the_key(folder: Path) -> None:
    model = folder / "models" / "acme"
    names = {str(one.relative_to(model)) for one in model.rglob("*") if one.is_file()}
    assert names == {"config.pbtxt", "1/model.onnx", "1/model.py"}
    assert (model / "1" / "model.onnx").read_bytes() == small_bundle().model
    config = (model / "config.pbtxt").read_text()
    assert "key" not in config.replace('parameters { key: "threads"', "")
    assert 'name: "pixels" data_type: TYPE_FP32 dims: [ 3, -1, -1 ]' in config
    assert 'name: "logits" data_type: TYPE_FP32 dims: [ 4, -1, -1 ]' in config


@contextmanager
def model_at_host(folder: Path) -> Iterator[tuple[Host, list[np.ndarray]]]:
    """A host that runs the repository's model, and the pixels that it was sent."""
    model = onnxruntime.InferenceSession(folder / "models" / "acme/1/model.onnx")
    seen = []

    def run(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(tensors["pixels"])
        return {"logits": model.run(["logits"], tensors)[0]}

    with host(run, [PIXELS], [LOGITS]) as server:
        yield server, seen


@pytest.mark.parametrize("file", ["host.mlgb", "client1.mlgb", "client2.mlgb"])
def test_masks_are_the_sessions(folder: Path, file: str) -> None:
    client = Preprocess.open(folder / file, KEY)
    expected = Session(small_bundle(), KEY).predict(ODD)
    assert len(np.unique(expected)) > 1
    with (
        model_at_host(folder) as (server, seen),
        client.at(Endpoint(server.url, "acme")) as remote,
    ):
        remote.check()
        masks = client.predict(ODD, remote.infer)
    np.testing.assert_array_equal(masks, expected)
    assert masks.dtype == expected.dtype
    np.testing.assert_array_equal(seen[0], client.pixels(ODD))
    with pytest.raises(AssertionError):  # what leaves is not what came in
        np.testing.assert_allclose(seen[0][..., :13, :22], plain(ODD), atol=0.1)


def plain(pixels: np.ndarray) -> np.ndarray:
    mean, std = (
        np.array(one, np.float32).reshape(3, 1, 1)
        for one in ((0.5, 0.4, 0.3), (0.2, 0.3, 1.0))
    )
    return (pixels / np.float32(255) - mean) / std


def test_a_classifier_has_one_answer_an_image(folder: Path) -> None:
    content = small2_bytes(
        image=shuffled(), task=task_facts(name="classification", ignore_index=None)
    )
    client = Preprocess(bundle2_of(content, name="a.mlgb"), KEY)
    scores = np.array([[0, 3, 1, 2], [9, 0, 0, 9]], np.float32)
    found = client.predict(ODD, lambda _: {"logits": scores})
    assert (found.tolist(), found.dtype) == ([1, 0], np.int64)


def test_an_issued_file_does_for_a_client(tmp_path: Path, folder: Path) -> None:
    path = issued(tmp_path).path
    client = Preprocess.open(path, HOSPITAL, conditions=Conditions(today=TODAY))
    ours = Preprocess.open(folder / "client2.mlgb", KEY)
    np.testing.assert_array_equal(client.pixels(ODD), ours.pixels(ODD))


@pytest.mark.parametrize(
    "shape", [(2, 4, 16, 23), (1, 4, 16, 24), (2, 3, 16, 24), (2, 4)], ids=str
)
def test_scores_of_something_else_are_refused(folder: Path, shape: tuple) -> None:
    client = Preprocess.open(folder / "client1.mlgb", KEY)
    with pytest.raises(RemoteError, match="the host gives scores of"):
        client.predict(ODD, lambda _: {"logits": np.zeros(shape, np.float32)})


def test_a_wrong_key_and_wrong_images_are_refused(folder: Path) -> None:
    for file in ("client1.mlgb", "client2.mlgb"):
        with pytest.raises(WrongKey, match=OTHER_KEY.key_id):
            Preprocess.open(folder / file, OTHER_KEY)
    client = Preprocess.open(folder / "client1.mlgb", KEY)
    with pytest.raises(ShapeError, match="expected images"):
        client.pixels(ODD.astype(np.float32))


def test_a_model_that_needs_the_key_is_refused_on_both_sides(tmp_path: Path) -> None:
    write_bundle(tmp_path / "keyed.mlgb", keyed_bundle())
    said = "the key acts inside the model, on the outputs of fed"
    with pytest.raises(BundleError, match=said):
        Preprocess.open(tmp_path / "keyed.mlgb", KEY)
    with pytest.raises(BundleError, match=said):
        at_host(tmp_path / "keyed.mlgb", tmp_path)


def test_a_key_that_does_nothing_to_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mlgb").write_bytes(small2_bytes(image=image_facts()))
    with pytest.raises(BundleError, match="the key does nothing to images"):
        Preprocess.open(tmp_path / "a.mlgb", KEY)
    with pytest.raises(BundleError, match="the key does nothing to images"):
        at_host(tmp_path / "a.mlgb", tmp_path)


def at_host(bundle: Path, folder: Path, **changes: object) -> None:
    try:
        served = Served("acme", **({"key_at": "client"} | changes))
        write_repository(bundle, folder / "models", served)
    finally:
        assert not (folder / "models").exists()


@pytest.mark.parametrize("file", ["client1.mlgb", "client2.mlgb"])
def test_a_sealed_bundle_is_not_for_a_host(
    folder: Path, tmp_path: Path, file: str
) -> None:
    with pytest.raises(BundleError, match="is sealed, and a host without the key"):
        at_host(folder / file, tmp_path)


def test_a_host_has_no_source_of_a_key(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="key_source: there is none"):
        at_host(folder / "host.mlgb", tmp_path, key_source="file:/a")


def test_the_hosts_model_answers_requests_in_their_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for Triton; test_triton_server.py asks a real one."""
    stand_in = SimpleNamespace(
        get_input_tensor_by_name=lambda request, _: request,
        Tensor=lambda name, array: (name, array),
        TritonError=str,
        InferenceResponse=lambda tensors, error=None: (tensors, error),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    model = TritonPythonModel()
    model.initialize(
        {
            "model_config": '{"parameters": {"threads": {"string_value": "1"}}}',
            "model_repository": str(folder / "models" / "acme"),
            "model_version": "1",
        }
    )
    client = Preprocess.open(folder / "client1.mlgb", KEY)
    sizes = [(8, 8), (12, 8), (8, 8)]
    photos = [images(1, 3, *size) for size in sizes]
    sent = [client.pixels(one) for one in photos] + [np.zeros((1, 2, 8, 8), np.float32)]
    requests = [SimpleNamespace(as_numpy=lambda one=one: one) for one in sent]
    answers = model.execute(requests)
    session = Session(small_bundle(), KEY)
    for photo, (tensors, error) in zip(photos, answers[:3], strict=True):
        assert error is None
        masks = client.predict(photo, lambda _, found=tensors: dict(found))
        np.testing.assert_array_equal(masks, session.predict(photo))
    assert "dimensions" in answers[3][1]


@pytest.mark.parametrize("module", ["triton_model", "host_model"])
def test_a_server_needs_no_tls(module: str) -> None:
    """The interpreter in Triton's Python backend cannot import ssl."""
    probe = f"import sys; sys.modules['ssl'] = None; import mlguard.serving.{module}"
    subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=True)


def test_the_pages_example_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "deploy" / "key-at-client.md").read_text()
    (block,) = re.findall(r"^```py\n(.*?)^```", page, re.S | re.M)
    identity = Identity.generate()
    identity.write(Path("owner.identity"))
    with Keystore.create(Path("keystore.mlgk"), identity) as store:
        store.add("acme", KEY.reveal())
    Path("acme.mlgb").write_bytes((folder / "client1.mlgb").read_bytes())
    Image.fromarray(images(9, 13, 3)).save("photo.png")
    block = block.replace("photo.jpg", "photo.png")
    with model_at_host(folder) as (server, _):
        names = {"url": server.url}
        exec(compile(block, "key-at-client.md", "exec"), names)
    expected = Session(small_bundle(), KEY).predict(read_image(Path("photo.png")))
    np.testing.assert_array_equal(names["mask"], expected)
