"""Issued bundles that independent code made, one fault each."""

import base64
import json
import zlib
from datetime import date
from pathlib import Path

import pytest

from keystore import Identity
from mlguard import errors
from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.cli.parties import Holder
from mlguard.issuing import Conditions, open_issued
from mlguard.signing import read_signer

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "issued.json").read_text("utf-8")
)


def tensors_of(case: dict, path: Path) -> dict[str, str]:
    """Open a bundle as its case says, to the last tensor."""
    path.write_bytes(zlib.decompress(base64.b64decode(case["bundle"])))
    holder = Holder(Identity(bytes.fromhex(case.get("identity", VECTORS["identity"]))))
    signers = [read_signer(one.encode(), name="it") for one in case.get("signers", [])]
    given = case.get("revocations")
    conditions = Conditions(
        signers=signers,
        today=date.fromisoformat(case.get("today", VECTORS["today"])),
        revocations=None if given is None else base64.b64decode(given),
    )
    bundle = glimpse_bundle(path)
    if not isinstance(bundle, Bundle2):
        bundle.whole()
        raise AssertionError("a bundle of format 1")
    opened = bundle.unlock(open_issued(bundle, holder, conditions))
    graph = opened.graph()
    return {
        row.header.name: data.tobytes().hex()
        for row, data in opened.tensors(graph.rows)
    }


def verdict_of(case: dict, path: Path) -> str:
    try:
        assert tensors_of(case, path) == VECTORS["tensors"]
    except errors.MlguardError as refusal:
        return type(refusal).__name__
    return "ok"


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["comment"])
def test_a_file_is_judged_as_expected(case: dict, tmp_path: Path) -> None:
    assert verdict_of(case, tmp_path / "it.mlgb") == case["expect"]


def test_there_are_enough_cases() -> None:
    assert len(VECTORS["cases"]) >= 80
    assert len({case["comment"] for case in VECTORS["cases"]}) == len(VECTORS["cases"])
