"""Signature files that independent code made, one fault each."""

import json
from pathlib import Path

import pytest

from mlguard import errors
from mlguard.signing import read_signer, verify_files

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "signatures.json").read_text()
)
SIGNER = read_signer(VECTORS["signer"].encode(), name="vectors")


def verdict_of(case: dict) -> str:
    try:
        verify_files(case["file"].encode(), VECTORS["files"], [SIGNER], name="it")
    except errors.MlguardError as refusal:
        return type(refusal).__name__
    return "ok"


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["comment"])
def test_a_signature_file_is_judged_as_expected(case: dict) -> None:
    assert verdict_of(case) == case["expect"]
