"""Format 2: written once, read strictly, opened tensor by tensor."""

import hashlib
import io
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlguard.bundle import (
    Bundle2,
    FileOwner,
    SealFacts2,
    Tensor2,
    Uncovered,
    WriteBeside,
    bundle2_bytes,
    bundle2_of,
    describe,
    glimpse_bundle,
    write_bundle2,
)
from mlguard.bundle.bundle2 import unsealed_graph
from mlguard.errors import (
    BundleError,
    MalformedBundle,
    OutputExists,
    TamperedBundle,
    WrongKey,
)
from mlguard.runtime import Session
from mlguard.sealing import PlainTensor
from tests.bundles import KEY, OTHER_KEY, PROTECTION_ID, convolution
from tests.bundles2 import (
    ORIGIN,
    SUBKEYS,
    facts2,
    half2_bytes,
    image_facts,
    model2,
    shuffled,
    small2,
    small2_bytes,
)

SEALS = {
    "sealed": SealFacts2(),
    "graph plain": SealFacts2(graph=False),
    "plain": SealFacts2(graph=False, weights=False),
}


def tensors_of(bundle: Bundle2, key: object = KEY) -> dict[str, bytes]:
    """Open everything that a bundle holds."""
    unlocked = bundle.unlock(key)
    if unlocked.bundle.manifest.selftest:
        unlocked.preprocess()
    rows = unlocked.graph().rows
    return {row.header.name: bytes(data) for row, data in unlocked.tensors(rows)}


@pytest.mark.parametrize("seal", SEALS.values(), ids=SEALS)
@pytest.mark.parametrize("image", [image_facts(), shuffled(), None], ids=str)
def test_tensors_come_back_bit_for_bit(seal: SealFacts2, image: object) -> None:
    bundle = small2(seal=seal, image=image)
    tensors = tensors_of(bundle)
    assert tensors["w"] == convolution().tobytes()
    assert bundle.unlock(KEY).graph().content == model2().graph


def test_a_sealed_bundle_shows_neither_graph_nor_weights() -> None:
    traces = [convolution().tobytes()[:16], b"Conv", b"logits\x3a", b'"w"']
    sealed, plain = small2_bytes(), small2_bytes(seal=SEALS["plain"])
    assert [trace for trace in traces[:2] if trace in sealed] == []
    assert all(trace in plain for trace in traces[:2])
    assert traces[3] in plain
    assert traces[3] not in sealed
    with pytest.raises(BundleError, match="is sealed: its graph cannot be read"):
        unsealed_graph(bundle2_of(sealed, name="s"))
    assert unsealed_graph(bundle2_of(plain, name="s")).content == model2().graph


@pytest.mark.parametrize("seal", SEALS.values(), ids=SEALS)
def test_every_flipped_bit_of_the_file_is_refused(seal: SealFacts2) -> None:
    data = bytearray(small2_bytes(seal=seal, image=shuffled()))
    zeros = range(data.index(b"\x35\xd9"), len(data))
    for at in [*range(0, zeros.start, 3), *range(zeros.start, len(data), 7)]:
        data[at] ^= 1 << at % 8
        with pytest.raises((BundleError, WrongKey), match="x"):
            tensors_of(bundle2_of(bytes(data), name="x"))
        data[at] ^= 1 << at % 8
    tensors_of(bundle2_of(bytes(data), name="x"))


def test_any_zip_program_can_list_it(tmp_path: Path) -> None:
    write_bundle2(tmp_path / "small.mlgb", model2(image=shuffled()), SUBKEYS)
    with zipfile.ZipFile(tmp_path / "small.mlgb") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "manifest.json",
            "tensors.json.enc",
            "graph.onnx.enc",
            "preprocess.onnx",
            "weights.bin",
        ]


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "small.mlgb"

    def refuse(found: Path) -> None:
        assert tensors_of(glimpse_bundle(found))["w"] == convolution().tobytes()
        raise BundleError("not good enough")

    with pytest.raises(BundleError, match="not good enough"):
        write_bundle2(path, model2(), SUBKEYS, check=refuse)
    assert list(tmp_path.iterdir()) == []
    write_bundle2(path, model2(), SUBKEYS)
    with pytest.raises(OutputExists, match="already exists"):
        write_bundle2(path, model2(), SUBKEYS)
    assert [one.name for one in tmp_path.iterdir()] == ["small.mlgb"]


def test_a_wrong_key_is_named_with_both_ids() -> None:
    words = f"made for key {KEY.key_id}, got key {OTHER_KEY.key_id}"
    with pytest.raises(WrongKey, match=words):
        small2().unlock(OTHER_KEY)


def test_two_exports_of_one_model_share_no_byte_of_their_weights() -> None:
    one, other = small2(), small2()
    assert one.manifest.salt != other.manifest.salt
    members = [bundle.read("weights.bin") for bundle in (one, other)]
    same = sum(a == b for a, b in zip(*members, strict=True))
    assert same < len(members[0]) / 8  # of random bytes 1 in 256, and the padding
    assert one.manifest.provenance.recipe != other.manifest.provenance.recipe


def test_recipe_and_data_are_under_the_key() -> None:
    text = small2().manifest.to_bytes().decode()
    assert ORIGIN.recipe_sha256 not in text
    assert '"seed"' not in text


class Secrets:
    """What a grant carries."""

    def __init__(self, content_key: bytes) -> None:
        self.key_id, self.protection_id = KEY.key_id, PROTECTION_ID
        self.content_key = content_key

    def derive(self, use: str) -> bytes:
        return SUBKEYS.derive(use)


def test_an_issued_file_opens_with_its_own_key_and_not_with_the_owners() -> None:
    secrets = Secrets(bytes(range(7, 39)))
    owner = FileOwner(KEY.key_id, PROTECTION_ID, SUBKEYS, secrets.content_key)

    hashes = {}

    def make(given: dict[str, str]) -> dict[str, bytes]:
        hashes.update(given)
        return {"grant.json": b"a grant", "model.sig": b"signed"}

    beside = WriteBeside(make)
    data = bundle2_bytes(model2(image=shuffled()), owner, name="i", beside=beside)
    bundle = bundle2_of(data, name="i")
    assert (bundle.grant, bundle.signature) == (b"a grant", b"signed")
    assert hashes["manifest.json"] == bundle.digest
    for name, size, content in bundle.signed_parts():
        if name != "grant.json":
            assert hashes[name] == hashlib.sha256(content.read(size)).hexdigest()
    assert tensors_of(bundle, secrets)["w"] == convolution().tobytes()
    with pytest.raises(WrongKey, match="i was issued to a customer"):
        bundle.unlock(KEY)
    with pytest.raises(TamperedBundle, match="key commitment does not match"):
        bundle.unlock(Secrets(bytes(32)))
    with pytest.raises(WrongKey, match="not the file that this grant was made for"):
        small2().unlock(secrets)
    assert small2().grant is None
    listed = [name for name, _, _ in bundle.signed_parts()]
    assert listed == [*zipfile.ZipFile(io.BytesIO(data)).namelist()][:-1]


def test_what_is_not_covered_is_named_with_its_share() -> None:
    left = [Uncovered(name="axes", size=16, reason="shape inference reads it")]
    model = replace(model2(), left=left)
    owner = FileOwner.of(SUBKEYS)
    for seal, covered, names in (
        (SEALS["sealed"], 464, []),
        (SEALS["graph plain"], 448, ["axes"]),
        (SEALS["plain"], 0, ["w", "axes", "b"]),
    ):
        data = bundle2_bytes(model, owner, name="x", seal=seal)
        found = bundle2_of(data, name="x").manifest.coverage
        assert (found.size, found.covered) == (464, covered)
        assert [one.name for one in found.plain] == names
    assert found.share == 0


def test_types_that_numpy_does_not_know_travel_as_bytes() -> None:
    kinds = {16: (3,), 17: (3,), 22: (3,), 26: (5,), 23: (2,)}
    data = [
        PlainTensor(f"t{kind}", kind, shape, bytes([kind] * size))
        for (kind, shape), size in zip(kinds.items(), (6, 3, 2, 2, 1), strict=True)
    ]
    model = replace(model2(), tensors=[*model2().tensors, *data])
    with pytest.raises(MalformedBundle, match="tensor 't16' is not in graph"):
        bundle2_bytes(model, FileOwner.of(SUBKEYS), name="x")


@pytest.mark.parametrize("name", ["", "a\x1b[31m", "x" * 1025])
def test_a_tensor_name_that_a_terminal_could_obey_is_refused(name: str) -> None:
    odd = PlainTensor(name, 1, (1,), bytes(4))
    model = replace(model2(), tensors=[odd])
    with pytest.raises(BundleError, match="a tensor is named"):
        bundle2_bytes(model, FileOwner.of(SUBKEYS), name="x")


def test_facts_that_contradict_each_other_are_refused() -> None:
    tensor = Tensor2(name="pixels", datatype="FP32", shape=None)
    for changes, words in (
        ({"inputs": (tensor, tensor)}, "inputs has a name twice"),
        ({"image": image_facts(input="x")}, "'x' is not an input"),
        ({"task": {"name": "detection"}}, "Field required"),
    ):
        with pytest.raises(ValueError, match=words):
            facts2(**changes)
    for changes, words in (
        ({"mean": (1.0,)}, "one number for each channel"),
        ({"colours": "grey"}, "grey has 1 channels"),
        ({"size": (8, 8, 8)}, "size does not fit layout"),
        ({"layout": "NHWC", "transform": shuffled().transform}, "needs NCHW"),
        ({"transform": shuffled().transform}, "block size does not divide"),
        ({"range": (1.0, 0.0)}, "range must rise"),
    ):
        with pytest.raises(ValueError, match=words):
            image_facts(**changes)


def test_a_newer_format_is_called_newer_and_not_damaged(tmp_path: Path) -> None:
    data = small2_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        own = archive.read("manifest.json")
    later = own.replace(b"mlguard.bundle/2", b"mlguard.bundle/3")
    forged = data.replace(own, later).replace(
        zlib.crc32(own).to_bytes(4, "little"), zlib.crc32(later).to_bytes(4, "little")
    )
    (tmp_path / "later.mlgb").write_bytes(forged)
    with pytest.raises(
        BundleError,
        match="is of format 3, this version of mlguard reads formats up to 2",
    ):
        glimpse_bundle(tmp_path / "later.mlgb")


def test_numpy_arrays_of_any_layout_are_written_row_by_row() -> None:
    turned = np.asfortranarray(convolution())
    changed = PlainTensor("w", 1, turned.shape, turned)
    model = replace(model2(), tensors=[changed, *model2().tensors[1:]])
    data = bundle2_bytes(model, FileOwner.of(SUBKEYS), name="x")
    assert tensors_of(bundle2_of(data, name="x"))["w"] == convolution().tobytes()


def test_a_private_half_says_what_it_stands_beside(tmp_path: Path) -> None:
    path = tmp_path / "half.mlgb"
    path.write_bytes(half2_bytes())
    found = glimpse_bundle(path)
    assert describe(found)["methods"] == ["split"]
    session = Session.open(path, KEY)
    assert [one.name for one in session.inputs] == ["images", "features.2"]
    with pytest.raises(BundleError, match="needs the public half, mobilenet"):
        session.predict(np.zeros((1, 3, 8, 8), np.uint8))
