"""Logs with one fault each: tests/vectors/audit_log.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlguard.audit.log import read_log
from mlguard.errors import ReportError

VECTORS = Path(__file__).parents[1] / "vectors"
GIVEN = json.loads((VECTORS / "audit_log.json").read_text())
GOOD = (VECTORS / "audit_log" / "good.jsonl").read_bytes()
SECRET = bytes.fromhex(GIVEN["secret"])


def file_of(case: dict[str, Any]) -> bytes:
    begin, end = case["keep"]
    between = case["between"].encode("latin-1")
    return GOOD[:begin] + between + GOOD[len(GOOD) - end :]


def test_the_cases_are_there() -> None:
    assert {case["expect"] for case in GIVEN["cases"]} == {
        *("ok", "unproved", "ReportError")
    }
    assert len(GIVEN["cases"]) > 30


@pytest.mark.parametrize("case", GIVEN["cases"], ids=lambda case: case["comment"])
def test_a_log_is_read_or_refused_as_its_case_says(
    case: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(file_of(case))
    if case["expect"] == "ReportError":
        with pytest.raises(ReportError):
            read_log(path)
    else:
        assert read_log(path).events
    if case["expect"] == "ok":
        assert read_log(path, SECRET).events
    else:
        with pytest.raises(ReportError):
            read_log(path, SECRET)
