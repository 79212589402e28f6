"""A model repository holds the bundle and no key, and is never written over."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mlguard.bundle import TaskFacts, write_bundle
from mlguard.errors import BundleError, OptionError, OutputExists
from mlguard.runtime import Session
from mlguard.serving import Served, write_repository
from mlguard.serving.batches import by_shape, split
from mlguard.serving.triton_model import TritonPythonModel
from tests.bundles import KEY, OTHER_KEY, small_bundle
from tests.bundles2 import small2_bytes, task_facts
from tests.serving.key_files import write_key

DETECTION = task_facts(
    name="detection", labels="logits", scores="logits", ignore_index=None
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "acme.mlgb", small_bundle(sealed=True))
    return tmp_path / "acme.mlgb"


def test_the_repository_is_what_triton_reads(path: Path, tmp_path: Path) -> None:
    served = Served("acme", "file:/run/secrets/acme.key", instances=2, max_batch=4)
    folder = write_repository(path, tmp_path / "models", served)
    assert (folder / "1" / "model.mlgb").read_bytes() == path.read_bytes()
    config = (folder / "config.pbtxt").read_text()
    for said in ("count: 2", "max_batch_size: 4", "file:/run/secrets/acme.key"):
        assert said in config


def test_a_second_version_goes_beside_the_first(path: Path, tmp_path: Path) -> None:
    write_repository(path, tmp_path / "models", Served("acme"))
    folder = write_repository(path, tmp_path / "models", Served("acme", version=2))
    assert {one.name for one in folder.iterdir()} == {"config.pbtxt", "1", "2"}
    with pytest.raises(OutputExists, match="already has version 2 of acme"):
        write_repository(path, tmp_path / "models", Served("acme", version=2))


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (Served("../up"), "name: expected letters"),
        (Served("a", 'file:"; x'), "key_source"),
        (Served("a", "file:/a\nb"), "key_source"),
        (Served("a", "MLGUARD-KEY-1-ABCD"), "key_source: expected the place of a key"),
        (Served("a", version=0), "version: expected at least 1"),
        (Served("a", instances=0), "instances"),
        (Served("a", max_batch=0), "max_batch"),
    ],
)
def test_what_cannot_stand_in_a_configuration_is_refused(
    path: Path, tmp_path: Path, served: Served, said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        write_repository(path, tmp_path / "models", served)
    assert not (tmp_path / "models").exists()


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.mlgb").write_bytes(b"PK")
    with pytest.raises(BundleError):
        write_repository(tmp_path / "no.mlgb", tmp_path / "models", Served("acme"))
    assert not (tmp_path / "models").exists()


def arguments(folder: Path, source: str) -> dict[str, str]:
    parameters = f'{{"key_source": {{"string_value": "{source}"}}}}'
    return {
        "model_config": f'{{"parameters": {parameters}}}',
        "model_repository": str(folder),
        "model_version": "1",
    }


def test_a_wrong_key_is_one_line_without_the_key(path: Path, tmp_path: Path) -> None:
    folder = write_repository(path, tmp_path / "models", Served("acme"))
    write_key(tmp_path / "other.key", OTHER_KEY)
    model = TritonPythonModel()
    with pytest.raises(RuntimeError, match=r"mlguard: error: .*key") as refusal:
        model.initialize(arguments(folder, f"file:{tmp_path / 'other.key'}"))
    assert refusal.value.__cause__ is None
    assert OTHER_KEY.reveal().hex() not in str(refusal.value)


def test_requests_of_one_size_go_together_and_come_apart() -> None:
    images = [np.zeros((n, 3, side, 4)) for n, side in ((1, 8), (2, 4), (3, 8))]
    assert [*by_shape(images)] == [[0, 2], [1]]
    parts = split(np.arange(4), images, [0, 2])
    assert [part.tolist() for part in parts] == [[0], [1, 2, 3]]


def test_requests_are_answered_in_their_order(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for Triton; test_triton_server.py asks a real one."""
    stand_in = SimpleNamespace(
        get_input_tensor_by_name=lambda request, _: request,
        Tensor=lambda _, array: array,
        TritonError=str,
        InferenceResponse=lambda tensors, error=None: (tensors, error),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    folder = write_repository(path, tmp_path / "models", Served("acme"))
    write_key(tmp_path / "acme.key", KEY)
    model = TritonPythonModel()
    model.initialize(arguments(folder, f"file:{tmp_path / 'acme.key'}"))
    draw = np.random.default_rng(0)
    images = [
        draw.integers(0, 256, (1, 3, side, 8), dtype=np.uint8) for side in (8, 12, 8)
    ]
    images.append(np.zeros((1, 3, 0, 8), np.uint8))
    requests = [SimpleNamespace(as_numpy=lambda one=one: one) for one in images]
    answers = model.execute(requests)
    session = Session.open(path, KEY)
    for image, (tensors, error) in zip(images[:3], answers[:3], strict=True):
        assert error is None
        np.testing.assert_array_equal(tensors[0], session.predict(image))
    assert "expected images" in answers[3][1]


@pytest.mark.parametrize("task", [None, DETECTION], ids=str)
def test_an_image_without_classes_goes_in_and_tensors_come_out(
    task: TaskFacts | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the configuration declares is what the server asks a request for."""
    (tmp_path / "acme.mlgb").write_bytes(small2_bytes(task=task))
    folder = write_repository(tmp_path / "acme.mlgb", tmp_path / "m", Served("acme"))
    config = (folder / "config.pbtxt").read_text()
    declared = re.findall(r'name: "(\w+)" data_type: (\w+)', config)
    assert declared == [("images", "TYPE_UINT8"), ("logits", "TYPE_FP32")]
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    request = {"images": SimpleNamespace(as_numpy=lambda: image)}
    stand_in = SimpleNamespace(
        get_input_tensor_by_name=lambda given, name: given.get(name),
        Tensor=lambda name, array: (name, array),
        TritonError=str,
        InferenceResponse=lambda tensors, error=None: (tensors, error),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    write_key(tmp_path / "acme.key", KEY)
    model = TritonPythonModel()
    model.initialize(arguments(folder, f"file:{tmp_path / 'acme.key'}"))
    ((tensors, error),) = model.execute([request])
    assert error is None
    expected = Session.open(tmp_path / "acme.mlgb", KEY).run({"images": image})
    for name, array in tensors:
        np.testing.assert_array_equal(array, expected[name])
    assert dict(tensors).keys() == expected.keys()
