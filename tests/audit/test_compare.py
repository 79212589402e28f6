"""Audits beside each other: the same images in one table, what differs is said."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlguard.audit.report.compare import Comparison, Entry, compare, read_audits
from mlguard.audit.report.compare import dump_comparison as dump
from mlguard.audit.report.compare_words import cells, render_comparison
from mlguard.audit.report.schema import AuditReport, dump_report
from mlguard.errors import ReportError
from tests.audits import (
    VERDICTS,
    attacked_report,
    attacks,
    claiming_report,
    images,
    report,
)

CODES = {
    "seed": ("different-seeds", lambda r: dataclasses.replace(r, seed=3)),
    "training": (
        "different-training-seeds",
        lambda r: of_subject(r, training_seed=8),
    ),
    "attacks": (
        "different-budgets",
        lambda r: dataclasses.replace(r, attacks=attacks()),
    ),
    "versions": (
        "different-versions",
        lambda r: dataclasses.replace(r, versions={"mlguard": "0.0.9"}),
    ),
}


def of_subject(written: AuditReport, **changes: object) -> AuditReport:
    subject = dataclasses.replace(written.subject, **changes)
    return dataclasses.replace(written, subject=subject)


def other_model(written: AuditReport, number: int = 1) -> AuditReport:
    return of_subject(written, protection_id=f"{number:02x}" * 16)


def of_images(written: AuditReport, fingerprint: str = "aa" * 32) -> AuditReport:
    material = dataclasses.replace(written.material, fingerprint=fingerprint)
    return dataclasses.replace(written, material=material)


def compared(*reports: AuditReport) -> Comparison:
    entries = [Entry(i + 1, f"run{i + 1}", one) for i, one in enumerate(reports)]
    return compare(entries)


def codes(comparison: Comparison) -> set[str]:
    (group,) = comparison.groups
    return {one.code for one in (*group.differences, *comparison.differences)}


def test_two_models_on_the_same_terms_differ_in_nothing_else() -> None:
    assert codes(compared(report(), other_model(report()))) == set()


@pytest.mark.parametrize("kind", CODES)
def test_what_differs_is_said_with_the_numbers_of_the_audits(kind: str) -> None:
    code, change = CODES[kind]
    comparison = compared(report(), change(other_model(report())))
    assert code in codes(comparison)
    said = {one.code: one.message for one in comparison.groups[0].differences}[code]
    assert "1: " in said
    assert "2: " in said


def test_other_numbers_of_keys_and_another_reference_are_said() -> None:
    other = report(incorrect=[images(0.4)] * 5, baseline=None)
    found = codes(compared(report(), other_model(other)))
    assert found == {"different-tries", "different-references"}


def test_two_audits_of_one_model_are_no_difference_between_models() -> None:
    assert codes(compared(report(), report())) == {"same-model"}


def test_other_images_are_never_in_the_same_table() -> None:
    comparison = compared(report(), of_images(report()), other_model(report()))
    numbers = [[entry.number for entry in g.entries] for g in comparison.groups]
    assert numbers == [[1, 3], [2]]
    assert [one.code for one in comparison.differences] == ["different-images"]
    assert render_comparison(comparison).count('class="compared"') == 2


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [((), None), (VERDICTS[:1], "PASS"), (VERDICTS[:2], "FAIL")],
)
def test_the_worst_answer_stands_for_the_claims(verdicts: tuple, worst: str) -> None:
    entry = Entry(1, "a", dataclasses.replace(report(), verdicts=verdicts))
    assert entry.worst_answer == worst
    assert Entry(1, "a", claiming_report()).worst_answer == "INCONCLUSIVE"


def test_a_row_has_the_numbers_of_the_report() -> None:
    row = cells(Entry(2, "acme", claiming_report()))
    assert row[0] == "2. acme"
    assert row[3] == "0.818"
    assert row[8].startswith("100")
    assert row[9] == "1 INCONCLUSIVE, 1 FAIL, 1 PASS"
    bare = dataclasses.replace(report(), verdicts=())
    assert cells(Entry(1, "a", bare))[7:] == ("–", "–", "–")


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))


def test_the_page_draws_every_audit_with_its_number() -> None:
    html = render_comparison(compared(attacked_report(), other_model(report())))
    assert html.count('<circle class="dot ring set') == 2
    assert html.count('<circle class="dot set0"') == 1 + 2  # attack, and re-training
    tags = Page(html).tags
    charts = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(charts) == 2
    assert all(one["role"] == "img" for one in charts)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing_and_escapes_names() -> None:
    entries = [Entry(1, "<script>x</script>", report()), Entry(2, "b", report())]
    html = render_comparison(compare(entries))
    assert "<script" not in html
    assert "default-src 'none'" in html
    assert "url(" not in html


def test_json_has_every_audit_with_its_group() -> None:
    table = json.loads(dump(compared(attacked_report(), of_images(report()))))
    assert table["schema"] == "mlguard.audit-compare/1"
    assert [len(group["audits"]) for group in table["groups"]] == [1, 1]
    first = table["groups"][0]["audits"][0]
    assert first["stolen_value"] == attacked_report().attacks.stolen_value
    assert first["claims"]["random-keys"] == "FAIL"


def saved(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "audit.json").write_bytes(dump_report(report()))
    return [folder / name for name in names]


def test_a_name_is_as_much_of_the_path_as_tells_it_apart(tmp_path: Path) -> None:
    found = read_audits(saved(tmp_path, "a/report", "b/report"))
    assert [entry.name for entry in found] == ["a/report", "b/report"]
    found = read_audits(saved(tmp_path, "one", "two"))
    assert [entry.name for entry in found] == ["one", "two"]


def test_files_and_folders_may_be_mixed(tmp_path: Path) -> None:
    first, second = saved(tmp_path, "one", "two")
    found = read_audits([first / "audit.json", second])
    assert [entry.name for entry in found] == ["one", "two"]


@pytest.mark.parametrize("number", [0, 1, 51])
def test_one_audit_or_too_many_are_refused(tmp_path: Path, number: int) -> None:
    (one,) = saved(tmp_path, "one")
    with pytest.raises(ReportError, match=f"2 to 50 audits to compare, got {number}"):
        read_audits([one] * number)


def test_the_same_audit_twice_is_refused(tmp_path: Path) -> None:
    (one,) = saved(tmp_path, "one")
    with pytest.raises(ReportError, match="is given twice"):
        read_audits([one, one / "audit.json"])


def test_a_comparison_says_that_nobody_vouches_for_it() -> None:
    entries = compared(report(), other_model(report()))
    assert "read without their keys, so nothing shows" in render_comparison(entries)
