"""Headers from strangers: read strictly or refused, whatever they are."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlguard.errors import MalformedWeights
from mlguard.weights.header import Entry, parse_header, write_header

VALID = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
)
NAMES = st.text(
    st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20
).filter(lambda name: name != "__metadata__")  # the format's own
TYPES = st.sampled_from(["F32", "BF16", "I8", "F8_E4M3", "BOOL", "I64"])
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


def parsed(fields: object) -> bool:
    """Whether something is a header; any other refusal is a failure."""
    try:
        parse_header(json.dumps(fields).encode(), name="any")
    except MalformedWeights:
        return False
    return True


def test_a_valid_header_is_read() -> None:
    assert parsed(VALID)


@given(st.binary(max_size=200))
def test_bytes_are_refused_with_a_sentence(raw: bytes) -> None:
    with pytest.raises(MalformedWeights, match="any: header: "):
        parse_header(b"!" + raw, name="any")


@given(JSON)
def test_any_json_is_refused_or_has_no_tensors(fields: object) -> None:
    assert not parsed(fields) or set(fields) <= {"__metadata__"}


@given(st.sampled_from(["dtype", "shape", "data_offsets", "more"]), JSON)
def test_any_value_in_the_place_of_another_is_refused(
    field: str, value: object
) -> None:
    assert not parsed({"w": VALID["w"] | {field: value}}) or (
        VALID["w"] | {field: value} == VALID["w"]
    )


@settings(max_examples=50)
@given(st.dictionaries(NAMES, st.tuples(TYPES, SHAPES), max_size=6))
def test_what_is_written_is_read_again(tensors: dict) -> None:
    at, entries = 0, []
    for name, (dtype, shape) in tensors.items():
        entries.append(Entry(name, dtype, shape, at))
        at = entries[-1].stop
    raw = write_header({"format": "pt"}, entries)
    assert len(raw) % 64 == 0
    found = parse_header(raw[8:], name="any")
    assert set(found.entries) == set(entries)
    assert found.data_bytes == at
    assert found.metadata == {"format": "pt"}
