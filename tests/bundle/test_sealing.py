"""The seal: with the key the model comes out, without it nothing does."""

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

import mlguard.errors
from mlguard.bundle import (
    Bundle,
    archive,
    check_key,
    make_bundle,
    read_bundle,
    write_bundle,
)
from mlguard.bundle.bundle import parse_bundle
from mlguard.bundle.manifest import SealFacts
from mlguard.bundle.preprocess_graph import empty_slot
from mlguard.bundle.proofs import commitment, manifest_mac
from mlguard.bundle.sealing import OVERHEAD_BYTES, seal, unseal
from mlguard.engine import onnxruntime
from mlguard.errors import BundleError, MalformedBundle, TamperedBundle, WrongKey
from mlguard.keys import ModelKey
from mlguard.runtime import Session
from tests.bundles import (
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

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/seal.json").read_text())
SUBKEYS = KEY.for_model(PROTECTION_ID)
BESIDE = "ab" * 32
MODEL = model_graph()


def parse(data: bytes) -> Bundle:
    return parse_bundle(io.BytesIO(data), len(data), name="small")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def resealed(bundle: Bundle, stored: bytes) -> Bundle:
    """What someone who holds the key could write with other sealed bytes."""
    member = bundle.manifest.files["model.onnx.enc"].model_copy(
        update={"sha256": _sha256(stored), "size": len(stored)}
    )
    files = bundle.manifest.files | {"model.onnx.enc": member}
    proof = commitment(SUBKEYS, bytes.fromhex(_sha256(stored)))
    changes = {"files": files, "key_commitment": proof}
    manifest = bundle.manifest.model_copy(update=changes)
    mac = manifest_mac(SUBKEYS, manifest)
    return replace(
        bundle, manifest=manifest.model_copy(update={"mac": mac}), stored=stored
    )


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["comment"])
def test_vectors(case: dict[str, str]) -> None:
    subkeys = ModelKey(bytes.fromhex(case["secret"])).for_model(
        bytes.fromhex(case["protection_id"])
    )

    def opened() -> bytes:
        return unseal(
            bytes.fromhex(case["sealed"]),
            subkeys,
            preprocess_sha256=case["preprocess_sha256"],
            name="m",
        )

    if case["expect"] == "success":
        assert opened().hex() == case["model"]
    else:
        with pytest.raises(getattr(mlguard.errors, case["expect"]), match="m "):
            opened()


def test_a_sealed_bundle_predicts_what_the_open_one_does(tmp_path: Path) -> None:
    write_bundle(tmp_path / "s.mlgb", small_bundle(sealed=True))
    sealed, pixels = Session.open(tmp_path / "s.mlgb", KEY), images(2, 3, 17, 31)
    assert sealed.manifest.seal == SealFacts()
    plain = Session(small_bundle(), KEY)
    assert (sealed.logits(pixels) == plain.logits(pixels)).all()


def test_a_sealed_bundle_reads_back_as_it_was_written(tmp_path: Path) -> None:
    bundle = small_bundle(sealed=True)
    write_bundle(tmp_path / "s.mlgb", bundle)
    read = read_bundle(tmp_path / "s.mlgb")
    assert replace(read, name=bundle.name) == bundle
    assert read.open_model(check_key(read.manifest, KEY, name="s")) == MODEL


def test_bundles_are_sealed_unless_asked_otherwise() -> None:
    given = facts()
    bundle = make_bundle(
        given,
        preprocess=preprocess_graph(given),
        model=MODEL,
        subkeys=SUBKEYS,
        name="small",
    )
    assert bundle.sealed


def test_nothing_of_the_model_is_in_the_file() -> None:
    weights = convolution().tobytes()
    traces = [
        weights[:16],
        b"Conv",
        _sha256(MODEL).encode(),
        bytes.fromhex(_sha256(MODEL)),
    ]
    content = small_bundle(sealed=True).to_bytes()
    assert [trace for trace in traces if trace in content] == []
    assert all(trace in small_bundle().to_bytes() for trace in traces[:3])


def test_two_seals_of_one_model_share_nothing() -> None:
    one, other = (seal(MODEL, SUBKEYS, preprocess_sha256=BESIDE) for _ in "ab")
    assert len(one) == len(MODEL) + OVERHEAD_BYTES
    same = sum(a == b for a, b in zip(one, other, strict=True))
    assert same < len(one) / 16  # of random bytes 1 in 256 agree


def test_the_model_cannot_be_read_without_the_key(tmp_path: Path) -> None:
    bundle = small_bundle(sealed=True)
    with pytest.raises(BundleError, match=r"small\.mlgb is sealed"):
        bundle.model  # noqa: B018
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf):
        onnxruntime.InferenceSession(bundle.stored)
    assert small_bundle().model == MODEL


def test_a_wrong_key_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = small_bundle(sealed=True)
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(WrongKey, match=f"made for key {KEY.key_id}, got key"):
        Session(bundle, OTHER_KEY)
    with pytest.raises(WrongKey, match="was not sealed under key"):
        bundle.open_model(OTHER_KEY.for_model(PROTECTION_ID))
    with pytest.raises(WrongKey, match="was not sealed under key"):
        bundle.open_model(KEY.for_model(bytes(16)))


def test_every_flipped_byte_of_the_file_is_refused() -> None:
    data = bytearray(small_bundle(sealed=True).to_bytes())
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        with pytest.raises(BundleError, match="small"):
            parse(bytes(data))
        data[at] ^= 1 << at % 8
    parse(bytes(data))


def test_every_flipped_byte_of_the_seal_is_refused_by_the_seal_itself() -> None:
    """As if whoever changed it had put the checksums and hashes right again."""
    sealed = bytearray(seal(MODEL, SUBKEYS, preprocess_sha256=BESIDE))
    for at in range(len(sealed)):
        sealed[at] ^= 1
        with pytest.raises((WrongKey, TamperedBundle), match=r"not sealed|changed"):
            unseal(bytes(sealed), SUBKEYS, preprocess_sha256=BESIDE, name="m")
        sealed[at] ^= 1
    assert unseal(bytes(sealed), SUBKEYS, preprocess_sha256=BESIDE, name="m") == MODEL


@pytest.mark.parametrize("cut", [1, 16, 32])
def test_a_truncated_seal_is_refused(cut: int) -> None:
    bundle = small_bundle(sealed=True)
    forged = parse(resealed(bundle, bundle.stored[:-cut]).to_bytes())
    with pytest.raises(TamperedBundle, match=r"model\.onnx\.enc was changed"):
        Session(forged, KEY)


def test_a_seal_too_short_for_a_model_is_refused() -> None:
    forged = resealed(small_bundle(sealed=True), bytes(OVERHEAD_BYTES))
    with pytest.raises(MalformedBundle, match="has 80 bytes, expected more than 80"):
        Session(parse(forged.to_bytes()), KEY)


def test_a_sealed_model_is_looked_over_before_onnxruntime_sees_it() -> None:
    """Even from someone who holds the key."""
    outside = onnx.load_model_from_string(MODEL)
    outside.graph.initializer.append(empty_slot("w2", TensorProto.FLOAT, [1]))
    later = onnx.load_model_from_string(MODEL)
    later.opset_import[0].version = 21
    for hostile, reason in (
        (b"no graph", r"model\.onnx: "),
        (outside.SerializeToString(), "points to data outside the file"),
        (later.SerializeToString(), "has opset 21, expected 20"),
    ):
        bundle = small_bundle(sealed=True)
        beside = bundle.manifest.files["preprocess.onnx"].sha256
        stored = seal(hostile, SUBKEYS, preprocess_sha256=beside)
        forged = parse(resealed(bundle, stored).to_bytes())
        with pytest.raises(MalformedBundle, match=reason):
            Session(forged, KEY)


def test_a_model_of_another_bundle_under_the_same_key_is_refused() -> None:
    """One run, exported twice with other means: neither model fits beside the other."""
    normalization = {"mean": (0.1, 0.1, 0.1), "std": (1.0, 1.0, 1.0)}
    other = small_bundle(sealed=True, normalization=normalization)
    with pytest.raises(TamperedBundle, match="was changed after it was sealed"):
        Session(resealed(small_bundle(sealed=True), other.stored), KEY)
    assert Session(other, KEY).provider


def swapped(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> bytes:
    data = small_bundle(sealed=True).to_bytes()
    members = archive.unpack(io.BytesIO(data), len(data), name="small")
    return archive.pack(change(members))


def test_a_seal_taken_off_the_manifest_or_the_file_is_refused() -> None:
    def renamed(members: dict[str, bytes]) -> dict[str, bytes]:
        stored = members.pop("model.onnx.enc")
        return members | {"model.onnx": stored}

    def denied(members: dict[str, bytes]) -> dict[str, bytes]:
        fields = json.loads(members["manifest.json"])
        fields["seal"] = None
        options = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
        return members | {"manifest.json": json.dumps(fields, **options).encode()}

    with pytest.raises(MalformedBundle, match=r"is sealed, and the file has model\.o"):
        parse(swapped(renamed))
    with pytest.raises(MalformedBundle, match=r"files must name .*model\.onnx$"):
        parse(swapped(denied))


def test_an_absurd_size_of_a_sealed_model_is_refused_before_it_is_read() -> None:
    data = bytearray(small_bundle(sealed=True).to_bytes())
    at = data.rindex(b"PK\3\4")
    data[at + 18 : at + 26] = struct.pack("<I", archive.MEMBERS["model.onnx.enc"]) * 2
    with pytest.raises(MalformedBundle, match=r"ends within model\.onnx\.enc"):
        parse(bytes(data))
    data[at + 18 : at + 26] = b"\xff" * 8
    with pytest.raises(MalformedBundle, match="announces 4294967295 bytes"):
        parse(bytes(data))


def test_a_model_too_large_to_seal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = len(MODEL) + OVERHEAD_BYTES
    monkeypatch.setitem(archive.MEMBERS, "model.onnx.enc", limit)
    assert small_bundle(sealed=True).sealed
    monkeypatch.setitem(archive.MEMBERS, "model.onnx.enc", limit - 1)
    with pytest.raises(BundleError, match=rf"enc would have {limit} bytes, at most"):
        small_bundle(sealed=True)


def test_the_seal_follows_the_archives_layout() -> None:
    """The names differ in length, so every place of the archive moves."""
    content = small_bundle(sealed=True).to_bytes()
    assert content.count(b"model.onnx.enc") == 3  # header, directory, manifest
    members = archive.unpack(io.BytesIO(content), len(content), name="small")
    stored = members["model.onnx.enc"]
    assert struct.pack("<3I", zlib.crc32(stored), len(stored), len(stored)) in content


def test_opening_a_sealed_bundle_writes_nothing_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "small.mlgb", small_bundle(sealed=True))
    before = (tmp_path / "small.mlgb").read_bytes()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    Session.open(Path("small.mlgb"), KEY).predict(images(1, 3, 8, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["small.mlgb"]
    assert (tmp_path / "small.mlgb").read_bytes() == before
