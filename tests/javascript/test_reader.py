"""Two readers, one specification: both answer alike, and refuse alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from mlguard import errors
from mlguard.bundle import (
    FileOwner,
    PrecisionFacts,
    SealFacts2,
    bundle2_bytes,
    glimpse_bundle,
)
from mlguard.keys import ModelKey
from mlguard.runtime import Session
from tests.bundles2 import SUBKEYS, half2_bytes, model2, shuffled, small2_bytes
from tests.javascript.node import needs_node, node
from tests.serving.key_files import write_key

pytestmark = needs_node
GOLDEN = Path(__file__).parents[1] / "golden" / "v0.1"
KEY, OTHER_KEY = ModelKey(bytes(range(32))), ModelKey(bytes(32))
HEIGHT, WIDTH = 30, 41  # no multiples of a block
IMAGE = np.random.default_rng(3).integers(0, 256, (1, 3, HEIGHT, WIDTH), dtype=np.uint8)
PACKAGES = ("onnxruntime-node", "onnxruntime-web")
KINDS = {
    "as it is": {},
    "shuffled": {"image": shuffled()},
    "graph in the clear": {
        "image": shuffled(2, ("np", "ffx")),
        "seal": SealFacts2(graph=False, weights=True),
    },
    "rounded": {
        "precision": PrecisionFacts(
            kind="int8", images=233, agreement=0.9692, before=0.4258, after=None
        )
    },
    "all in the clear": {"seal": SealFacts2(graph=False, weights=False)},
}


def answer(bundle: Path, key: ModelKey, package: str = "onnxruntime-node"):
    """A mask, or the refusal as text."""
    folder = bundle.parent
    (folder / "image").write_bytes(IMAGE.tobytes())
    (folder / "key").unlink(missing_ok=True)
    write_key(folder / "key", key)
    files = (bundle, folder / "key", folder / "image", HEIGHT, WIDTH, folder / "mask")
    done = node("bin/run.mjs", package, *files)
    if done.returncode:
        return done.stdout
    mask = np.frombuffer((folder / "mask").read_bytes(), np.uint8)
    return mask.reshape(1, HEIGHT, WIDTH)


def test_every_vector_holds_there_too() -> None:
    done = node("--test", "test/")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "# fail 0" in done.stdout


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("name", ["shf", "ffx", "bound"])
def test_a_bundle_of_format_1_gives_the_same_mask(
    name: str, package: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "it.mlgb"
    bundle.write_bytes((GOLDEN / f"{name}.mlgb").read_bytes())
    expected = Session.open(bundle, KEY).predict(IMAGE)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(answer(bundle, KEY, package), expected)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_format_2_gives_the_same_mask(
    kind: str, package: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "it.mlgb"
    bundle.write_bytes(small2_bytes(**KINDS[kind]))
    expected = Session.open(bundle, KEY).predict(IMAGE)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(answer(bundle, KEY, package), expected)


def test_the_default_domain_has_two_spellings(tmp_path: Path) -> None:
    made = model2()
    graph = onnx.load_model_from_string(made.graph)
    for one in (*graph.opset_import, *graph.graph.node):
        one.domain = "ai.onnx"
    long = replace(made, graph=graph.SerializeToString())
    bundle = tmp_path / "it.mlgb"
    bundle.write_bytes(bundle2_bytes(long, FileOwner.of(SUBKEYS), name="it"))
    expected = Session.open(bundle, KEY).predict(IMAGE)
    np.testing.assert_array_equal(answer(bundle, KEY), expected)


def damaged(content: bytes, place: float) -> bytes:
    """One bit flipped, `place` of the way through the file."""
    at = int(place * (len(content) - 1))
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("place", [step / 16 for step in range(17)])
@pytest.mark.parametrize("number", [1, 2])
def test_a_flipped_bit_is_refused_in_the_same_words(
    number: int, place: float, tmp_path: Path
) -> None:
    whole = (GOLDEN / "shf.mlgb").read_bytes() if number == 1 else small2_bytes()
    bundle = tmp_path / "it.mlgb"
    bundle.write_bytes(damaged(whole, place))
    with pytest.raises(errors.BundleError) as refusal:
        Session(glimpse_bundle(bundle), KEY)
    assert answer(bundle, KEY).startswith(type(refusal.value).__name__ + ":")


@pytest.mark.parametrize("number", [1, 2])
def test_another_key_is_named(number: int, tmp_path: Path) -> None:
    whole = (GOLDEN / "shf.mlgb").read_bytes() if number == 1 else small2_bytes()
    bundle = tmp_path / "it.mlgb"
    bundle.write_bytes(whole)
    said = answer(bundle, OTHER_KEY)
    assert said.startswith("WrongKey:")
    assert OTHER_KEY.key_id in said


def test_a_truncated_file_is_malformed(tmp_path: Path) -> None:
    bundle = tmp_path / "it.mlgb"
    bundle.write_bytes(small2_bytes()[:-1])
    assert answer(bundle, KEY).startswith("MalformedBundle:")


def test_a_private_half_is_refused_by_name(tmp_path: Path) -> None:
    bundle = tmp_path / "half.mlgb"
    bundle.write_bytes(half2_bytes())
    Session.open(bundle, KEY)
    assert "needs the public half, mobilenet_v2" in answer(bundle, KEY)
