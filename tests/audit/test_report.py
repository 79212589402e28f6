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

SCHEMA_FILE = Path(__file__).parents[2] / "docs/spec/audit-v3.schema.json"
FIRST = Path(__file__).parents[1] / "vectors/audit-v1.json"  # written by version 0.1.0
SECOND = FIRST.with_name("audit-v2.json")  # as it was written before schema 3


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


def test_a_report_of_the_first_schema_is_read_as_one_without_attacks() -> None:
    found = read_report(FIRST)
    assert found.schema == "mlguard.audit/1"
    assert found.attacks is None
    assert found.findings == report().findings


@pytest.mark.parametrize("field", ["attacks", "verdicts"])
def test_the_first_schema_has_none_of_the_new_fields(field: str) -> None:
    content = json.dumps(json.loads(FIRST.read_text()) | {field: None}).encode()
    with pytest.raises(ReportError, match=f"audit/1 has no field {field}"):
        parse_report(content, name="audit.json")


def test_a_report_of_the_second_schema_is_read_as_one_of_a_segmentation() -> None:
    found, same = read_report(SECOND), attacked_report()
    assert found.schema == "mlguard.audit/2"
    assert found.findings == same.findings
    assert found.attacks == same.attacks


PLACES = {
    "layers": ("subject",),
    "task": ("findings",),
    "class_counts": ("findings",),
    "class_scores": ("findings", "correct"),
    "scores": ("findings", "incorrect"),
    "score_interval": ("attacks", "findings", 0),
    "score": ("attacks", "controls", 0),
}


@pytest.mark.parametrize("field", PLACES)
def test_the_second_schema_has_none_of_the_third_s_names(field: str) -> None:
    table = part = json.loads(SECOND.read_text())
    for step in PLACES[field]:
        part = part[step]
    part[field] = None
    with pytest.raises(ReportError, match=f"audit/2 has no field {field}"):
        parse_report(json.dumps(table).encode(), name="audit.json")


@pytest.mark.parametrize("path", [FIRST, SECOND], ids=["first", "second"])
@pytest.mark.parametrize("part", ["subject", "findings", "attacks"])
@pytest.mark.parametrize("other", [7, [7], {"findings": 7}], ids=repr)
def test_an_older_report_of_another_shape_is_refused(
    path: Path, part: str, other: object
) -> None:
    content = json.dumps(json.loads(path.read_text()) | {part: other}).encode()
    with pytest.raises(ReportError, match=part):
        parse_report(content, name="audit.json")


@pytest.mark.parametrize("field", ["attacks", "verdicts"])
def test_the_third_schema_needs_its_new_fields(field: str) -> None:
    table = json.loads(dump_report(report()))
    del table[field]
    with pytest.raises(ReportError, match=field):
        parse_report(json.dumps(table).encode(), name="audit.json")


def test_a_worst_attack_that_is_not_there_is_refused() -> None:
    table = json.loads(dump_report(attacked_report()))
    table["attacks"]["worst"] = 99
    with pytest.raises(ReportError, match="names no finding"):
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
    with pytest.raises(ReportError, match=r"schema mlguard\.audit/4, this") as refusal:
        parse_report(edited(schema="mlguard.audit/4"), name="audit.json")
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
        (b'{"schema": "mlguard.audit/1", "schema": 1}', "given twice"),
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
        (without_pixels, "nothing was scored"),
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
    findings = json.loads(dump_report(report()))["findings"]
    of_classes(findings, number)
    read = parse_report(edited(findings=findings), name="audit.json")
    assert "<svg" in render_page(read)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot read"):
        read_report(tmp_path / "none.json")
