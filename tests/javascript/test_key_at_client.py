"""The key in Node.js, the model at a host without it: the masks of the first reader."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mlguard.bundle import write_bundle
from mlguard.runtime import Session
from tests.bundles import KEY, OTHER_KEY, keyed_bundle, small_bundle
from tests.bundles2 import LOGITS, PIXELS, image_facts, shuffled, small2_bytes
from tests.javascript.node import needs_node, node
from tests.runtime.oip_server import Host, answer_of, host
from tests.serving.key_files import write_key

pytestmark = needs_node
HEIGHT, WIDTH = 13, 22
IMAGE = np.random.default_rng(3).integers(0, 256, (1, 3, HEIGHT, WIDTH), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "image").write_bytes(IMAGE.tobytes())
    write_key(tmp_path / "key", KEY)
    write_key(tmp_path / "other", OTHER_KEY)
    write_bundle(tmp_path / "1.mlgb", small_bundle(sealed=True))
    (tmp_path / "2.mlgb").write_bytes(small2_bytes(image=shuffled()))
    return tmp_path


@pytest.fixture
def served():
    model = onnxruntime.InferenceSession(small_bundle().model)

    def run(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": model.run(["logits"], tensors)[0]}

    with host(run, [PIXELS], [LOGITS]) as found:
        yield found


def ask(folder: Path, served: Host, file: str = "2.mlgb", key: str = "key") -> str:
    """What it says; nothing if there is a mask."""
    files = (folder / file, folder / key, folder / "image")
    to = (folder / "mask", served.url, "acme")
    package = "onnxruntime-node"
    return node("bin/client.mjs", package, *files, HEIGHT, WIDTH, *to).stdout


@pytest.mark.parametrize("file", ["1.mlgb", "2.mlgb"])
def test_masks_are_the_sessions(folder: Path, served: Host, file: str) -> None:
    assert ask(folder, served, file) == ""
    mask = np.frombuffer((folder / "mask").read_bytes(), np.uint8)
    expected = Session.open(folder / file, KEY).predict(IMAGE)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(mask.reshape(expected.shape), expected)


def test_a_wrong_key_asks_no_host(folder: Path, served: Host) -> None:
    assert ask(folder, served, key="other").startswith("WrongKey:")
    assert served.asked == []


def test_a_model_that_needs_the_key_is_refused(folder: Path, served: Host) -> None:
    write_bundle(folder / "keyed.mlgb", keyed_bundle())
    assert "the key acts inside the model" in ask(folder, served, "keyed.mlgb")
    (folder / "plain.mlgb").write_bytes(small2_bytes(image=image_facts()))
    assert "the key does nothing to images" in ask(folder, served, "plain.mlgb")


SCORES = np.zeros((1, 4, 16, 24), np.float32)
TYPES = {"logits": "FP32"}
GOOD = answer_of({"logits": SCORES}, TYPES)


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (500, {}, b"", "answered 500"),
        (302, {"Location": "http://192.0.2.1/"}, b"", "does not answer"),
        (200, {}, GOOD[1], "gives no tensors as bytes"),
        (200, *answer_of({"logits": SCORES * np.nan}, TYPES), "not finite"),
        (200, *answer_of({"logits": SCORES[..., :20]}, TYPES), "expected 1,4,16,24"),
        (200, *answer_of({"logits": SCORES}, {"logits": "FP16"}), "other tensors than"),
        (200, *answer_of({"other": SCORES}, {"other": "FP32"}), "other tensors than"),
        (200, GOOD[0], GOOD[1] + b"1234", "of another size than it says"),
    ],
)
def test_what_is_no_answer_is_refused(
    folder: Path, served: Host, status: int, headers: dict, body: bytes, said: str
) -> None:
    served.reply = [(status, headers, body)]
    answered = ask(folder, served)
    assert answered.startswith("RemoteError:")
    assert said in answered


def test_the_address_of_another_machine_needs_tls(folder: Path, served: Host) -> None:
    served.url = "http://192.0.2.1:8000"
    assert "expected https" in ask(folder, served)
