"""audit.json: what is written is read back; the exact refusal of everything else."""

import json
from pathlib import Path

import pytest

from mlguard.audit.report.page import render_page
from mlguard.audit.report.schema import (
    dump_report,
    json_schema,
    parse_report,
    read_report,
)
from mlguard.errors import ReportError
from tests.audits import attacked_report, images, report

SCHEMA_FILE = Path(__file__).parents[2] / "docs/spec/audit-v4.schema.json"


def edited(**changes: object) -> bytes:
    return json.dumps(json.loads(dump_report(report())) | changes).encode()


@pytest.mark.parametrize("baseline", [images(1.0), None], ids=["twin", "no twin"])
def test_a_report_is_read_back_equal(tmp_path: Path, baseline: object) -> None:
    path, written = tmp_path / "audit.json", report(baseline=baseline)
    path.write_bytes(dump_report(written))
    assert read_report(path) == written


def test_a_report_with_attacks_is_read_back_equal() -> None:
    written = attacked_report()
    assert parse_report(dump_report(written), name="audit.json") == written


@pytest.mark.parametrize("older", [1, 2, 3])
def test_a_report_of_an_older_schema_is_refused_with_advice(older: int) -> None:
    with pytest.raises(
        ReportError, match=f"schema mlguard.audit/{older}, but this"
    ) as no:
        parse_report(edited(schema=f"mlguard.audit/{older}"), name="audit.json")
    assert "audit the model again" in no.value.hint


@pytest.mark.parametrize("field", ["attacks", "verdicts"])
def test_every_field_is_needed(field: str) -> None:
    table = json.loads(dump_report(report()))
    del table[field]
    with pytest.raises(ReportError, match=field):
        parse_report(json.dumps(table).encode(), name="audit.json")


def test_a_worst_attack_that_is_not_there_is_refused() -> None:
    table = json.loads(dump_report(attacked_report()))
    table["attacks"]["worst"] = 99
    with pytest.raises(ReportError, match="does not name a finding"):
        parse_report(json.dumps(table).encode(), name="audit.json")


def test_an_interval_of_an_attack_that_is_none_is_refused() -> None:
    table = json.loads(dump_report(attacked_report()))
    table["attacks"]["findings"][0]["score_interval"] = {"low": 0.9, "high": 0.1}
    with pytest.raises(ReportError, match="ends before it begins"):
        parse_report(json.dumps(table).encode(), name="audit.json")


def test_the_published_schema_is_the_code_s() -> None:
    """Run tests/audit/make_schema.py after a change that is meant."""
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema()


def test_a_newer_schema_is_refused_with_advice() -> None:
    with pytest.raises(
        ReportError, match=r"schema mlguard\.audit/5, but this"
    ) as refusal:
        parse_report(edited(schema="mlguard.audit/5"), name="audit.json")
    assert "newer" in refusal.value.hint


@pytest.mark.parametrize("schema", ["mlguard.audit/x", "garak/1", 1, None])
def test_another_schema_is_refused(schema: object) -> None:
    with pytest.raises(ReportError, match="is not an audit"):
        parse_report(edited(schema=schema), name="audit.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "not an audit"),
        (b"\xff\xfe", "not JSON"),
        (b'{"schema": "mlguard.audit/1", "schema": 1}', "appears twice"),
        (b"[" * 100_000, "not JSON"),
        (b'{"seed": NaN}', "NaN is not a number"),
    ],
    ids=["empty", "list", "not UTF-8", "twice", "deep", "NaN"],
)
def test_damaged_content_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ReportError, match=words):
        parse_report(content, name="audit.json")


@pytest.mark.parametrize(
    "change",
    [{"seed": "0"}, {"seed": -1}, {"extra": 1}, {"findings": {}}, {"created": "today"}],
    ids=lambda change: next(iter(change)),
)
def test_an_unfit_field_is_refused_by_name(change: dict[str, object]) -> None:
    with pytest.raises(ReportError, match=next(iter(change))):
        parse_report(edited(**change), name="audit.json")


def test_a_list_with_a_missing_class_is_refused() -> None:
    findings = json.loads(dump_report(report()))["findings"]
    findings["class_counts"].pop()
    with pytest.raises(ReportError, match="expected 3 entries in every per-class list"):
        parse_report(edited(findings=findings), name="audit.json")


def of_classes(findings: dict, number: int) -> None:
    """Give every per-class list so many entries."""
    for key in ("correct", "no_key", "baseline"):
        findings[key]["class_scores"] = [0.5] * number
    findings["incorrect"]["mean_class_scores"] = [0.5] * number
    findings["class_names"] = ["a"] * number
    findings["class_counts"] = [1] * number


def without_pixels(findings: dict) -> None:
    findings["class_counts"] = [0, 0, 0]


def interval(*path: str, low: float = 0, high: float = 1.01):
    def edit(findings: dict) -> None:
        for key in path:
            findings = findings[key]
        findings |= {"low": low, "high": high}

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (without_pixels, "no pixel or image was scored"),
        (lambda findings: of_classes(findings, 0), "expected 1 to 256 classes"),
        (lambda findings: of_classes(findings, 257), "expected 1 to 256 classes"),
        (interval("correct", "score_interval"), "outside 0 … 1"),
        (interval("correct", "score_interval", high=1e308), "outside 0 … 1"),
        (interval("baseline", "score_interval"), "outside 0 … 1"),
        (interval("incorrect", "mean_interval"), "outside 0 … 1"),
        (interval("incorrect", "maximum_interval"), "outside 0 … 1"),
        (interval("leakage_interval"), "outside 0 … 1"),
        (interval("no_key", "score_interval", low=0.6, high=0.5), "ends before it"),
        (interval("no_key", "score_interval", low=-0.1), "no_key.score_interval.low"),
    ],
)
def test_findings_that_no_page_can_draw_are_refused(edit, words: str) -> None:
    findings = json.loads(dump_report(report()))["findings"]
    edit(findings)
    with pytest.raises(ReportError, match=words):
        parse_report(edited(findings=findings), name="audit.json")


@pytest.mark.parametrize("number", [1, 256])
def test_the_most_and_fewest_classes_are_read_and_drawn(number: int) -> None:
    table = json.loads(dump_report(report()))
    of_classes(table["findings"], number)
    flags = table["flags"]
    table["flags"] = [one for one in flags if one["code"] != "absent-classes"]
    read = parse_report(json.dumps(table).encode(), name="audit.json")
    assert "<svg" in render_page(read, proved=True)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot read"):
        read_report(tmp_path / "none.json")
