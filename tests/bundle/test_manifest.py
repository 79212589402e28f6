"""The manifest: one spelling for one content, and no field that means nothing."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlguard.bundle.manifest import parse_manifest
from mlguard.errors import MalformedBundle
from tests.bundles import facts, small_bundle

MANIFEST = small_bundle().manifest
TEXT = MANIFEST.to_bytes()


def canonical(fields: object) -> bytes:
    options = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    return json.dumps(fields, **options).encode()


def edited(path: str, value: object) -> bytes:
    fields = json.loads(TEXT)
    *parents, last = path.split("/")
    place = fields
    for parent in parents:
        place = place[int(parent) if parent.isdigit() else parent]
    place[last] = value
    return canonical(fields)


def test_a_manifest_reads_back_as_it_was_written() -> None:
    assert parse_manifest(TEXT, name="small") == MANIFEST


def test_a_manifest_is_canonical_json() -> None:
    assert canonical(json.loads(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", "mlguard.bundle/2"),
        ("protection_id", "00"),
        ("key_id", "CCD2335CBF0D3F1D"),
        ("key_commitment", "ab" * 32 + "\n"),
        ("selftest", None),
        ("mac", 3),
        ("transform/methods", []),
        ("transform/methods", ["rot13"]),
        ("transform/methods", ["ffx", "np"]),
        ("transform/block_size", 3),
        ("transform/block_size", True),
        ("transform/spec", 2),
        ("transform/shown_by_weights", 1),
        ("normalization/mean", [0.5, 0.5]),
        ("normalization/std", [0.5, 0.0, 0.5]),
        ("inputs/0/datatype", "FP32"),
        ("outputs/0/shape", [-1, 9, -1, -1]),
        ("class_names", ["only one"]),
        ("class_names", ["wipe", "the screen \x1b[2J", "c", "d"]),
        ("ignore_index", 3),
        ("opset", 17),
        ("files/model.onnx/size", -1),
        ("files/other.onnx", {"sha256": "ab" * 32, "size": 1}),
        ("provenance/seed", 2**70),
        ("licence", "bell \a"),
        ("unknown", 1),
    ],
)
def test_an_unfit_field_is_refused_by_name(path: str, value: object) -> None:
    words = path.split("/")[0]
    with pytest.raises(
        MalformedBundle, match=rf"small: ({words}|.*(inputs|ignore|files))"
    ):
        parse_manifest(edited(path, value), name="small")


@pytest.mark.parametrize("reserved", ["feature_maps", "seal", "grants", "signature"])
def test_a_protection_that_this_version_does_not_know_is_refused(reserved: str) -> None:
    with pytest.raises(MalformedBundle, match=reserved):
        parse_manifest(edited(reserved, {"suite": "x"}), name="small")


@pytest.mark.parametrize("field", sorted(json.loads(TEXT)))
def test_a_missing_field_is_refused(field: str) -> None:
    fields = json.loads(TEXT)
    del fields[field]
    with pytest.raises(MalformedBundle, match=rf"{field}|canonical"):
        parse_manifest(canonical(fields), name="small")


@pytest.mark.parametrize(
    "spelling",
    [
        TEXT + b"\n",
        b"\xef\xbb\xbf" + TEXT,
        TEXT.replace(b'"opset":20', b'"opset": 20'),
        TEXT.replace(b'"opset":20', b'"opset":20.0'),
        TEXT.replace(b'"opset":20', b'"opset":20,"opset":20'),
        TEXT.replace(b"0.5", b"0.50"),
        TEXT.replace(b"1.0", b"1"),
        edited("transform/shown_by_weights", False),
        TEXT.replace(b"class 0", b"\\u0063lass 0"),
        json.dumps(json.loads(TEXT), sort_keys=True, separators=(",", ":")).encode(),
        canonical(dict(reversed(json.loads(TEXT).items())))[:1] + b" " + TEXT[1:],
    ],
)
def test_another_spelling_is_refused(spelling: bytes) -> None:
    assert spelling != TEXT
    with pytest.raises(MalformedBundle, match=r"canonical|opset|manifest"):
        parse_manifest(spelling, name="small")


@pytest.mark.parametrize(
    "text",
    [b"", b"[" * 100_000, b"9" * 10_000, b'{"a":NaN}', b'"\\ud800"', b"\xff", b"null"],
    ids=["empty", "deep", "long number", "NaN", "surrogate", "not UTF-8", "null"],
)
def test_what_is_not_a_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedBundle, match="small"):
        parse_manifest(text, name="small")


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5))
def test_no_value_escapes_as_anything_but_a_refusal(value: object) -> None:
    with pytest.raises(MalformedBundle, match="small"):
        parse_manifest(edited("files", value), name="small")


def test_what_the_weights_show_does_not_count_unless_it_is_sealed() -> None:
    transform = {"methods": ("np", "shf"), "block_size": 4, "shown_by_weights": True}
    layer = {"layer": "head", "channels": 64, "signs": False}
    given = facts(transform=transform, feature_maps=(layer,))
    hidden = facts(transform=transform | {"shown_by_weights": False})
    assert given.key_space(sealed=False) == 296.0  # log2(64!)
    assert given.key_space(sealed=True) == round(
        296.0 + hidden.key_space(sealed=True), 1
    )
    assert hidden.key_space(sealed=False) == hidden.key_space(sealed=True) == 247.8


def test_a_manifest_that_counts_what_its_weights_show_is_refused() -> None:
    shown = small_bundle(
        transform={"methods": ("shf",), "block_size": 4, "shown_by_weights": True}
    )
    fields = json.loads(shown.manifest.to_bytes())
    assert fields["key_space_bits"] == 0.0
    assert fields["transform"]["shown_by_weights"] is True
    fields["key_space_bits"] = MANIFEST.key_space_bits
    with pytest.raises(MalformedBundle, match=r"key_space_bits: expected 0\.0"):
        parse_manifest(canonical(fields), name="small")


def test_an_exporter_cannot_write_what_a_reader_refuses() -> None:
    with pytest.raises(ValidationError, match="is a class"):
        facts(ignore_index=0)
