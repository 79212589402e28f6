"""Bundles of format 1 with one fault each: tests/vectors/bundle1.json."""

import base64
import io
import json
from pathlib import Path

import pytest

from mlguard import errors
from mlguard.bundle.bundle import parse_bundle

TESTS = Path(__file__).parents[1]
GIVEN = json.loads((TESTS / "vectors" / "bundle1.json").read_text())
BASE = (TESTS / GIVEN["base"]).read_bytes()


def file_of(case: dict[str, str]) -> bytes:
    begin, end = GIVEN["middle"]
    head, tail = (base64.b64decode(case[part]) for part in ("head", "tail"))
    return head + BASE[begin:end] + tail


def test_the_first_case_is_the_base() -> None:
    assert file_of(GIVEN["cases"][0]) == BASE
    assert len(GIVEN["cases"]) > 25


@pytest.mark.parametrize("case", GIVEN["cases"], ids=lambda case: case["comment"])
def test_a_bundle_is_read_or_refused_as_its_case_says(case: dict[str, str]) -> None:
    data = file_of(case)
    if case["expect"] == "ok":
        assert parse_bundle(io.BytesIO(data), len(data), name="it")
    else:
        with pytest.raises(getattr(errors, case["expect"])) as refused:
            parse_bundle(io.BytesIO(data), len(data), name="it")
        assert type(refused.value).__name__ == case["expect"]
