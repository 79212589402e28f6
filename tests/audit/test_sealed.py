"""A sealed model: the correct key alone is measured, and everything says so."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from mlguard.audit.attack_findings import AttackSection
from mlguard.audit.attack_statistics import find_attacks
from mlguard.audit.attacks import ATTACKS
from mlguard.audit.attacks.campaign import none_run
from mlguard.audit.compare import Entry, compare, dump_comparison
from mlguard.audit.compare_words import comparison_table, render_comparison
from mlguard.audit.findings import SEALED
from mlguard.audit.flags import access_flags
from mlguard.audit.junit import junit_xml
from mlguard.audit.outcomes import AdversaryImages
from mlguard.audit.page import render_page
from mlguard.audit.report import AuditReport, dump_report, parse_report
from mlguard.audit.terminal import report_table
from mlguard.errors import ReportError
from tests.audits import measured, report

NOTHING = {"baseline": None, "no_key": None, "incorrect": [], "nearby": []}
CONDITIONS = ("no key", "incorrect keys", "nearby keys")


def no_attacks() -> AttackSection:
    source = AdversaryImages("validation", "ab" * 32, 64)
    names = [name for name in ATTACKS if name != "gradient"]
    campaign = none_run(names, budget="quick", source=source)
    return find_attacks(campaign, measured(**NOTHING), seed=0)


def sealed_report() -> AuditReport:
    written = report(**NOTHING)
    return dataclasses.replace(
        written,
        subject=dataclasses.replace(written.subject, access="sealed"),
        flags=(*access_flags("sealed"), *written.flags),
        attacks=no_attacks(),
    )


def test_nothing_is_known_of_users_without_the_key() -> None:
    found = sealed_report().findings
    assert (found.no_key, found.incorrect, found.nearby) == (None, None, ())
    assert (found.leakage, found.leakage_interval) == (None, None)
    assert found.unauthorized_tries == 0
    assert [one.condition for one in found.not_run] == list(CONDITIONS)
    assert {one.message for one in found.not_run} == {SEALED}


def test_no_attack_is_run_and_each_says_why() -> None:
    reasons = {one.attack: one.reason for one in no_attacks().not_run}
    assert reasons.pop("gradient") == "not-asked"
    assert set(reasons) == set(ATTACKS) - {"gradient"}
    assert set(reasons.values()) == {"sealed"}


def test_every_form_of_the_report_says_it() -> None:
    written, terminal = sealed_report(), io.StringIO()
    Console(file=terminal, width=400).print(report_table(written))
    for text in (
        render_page(written),
        terminal.getvalue(),
        junit_xml(written).decode(),
        dump_report(written).decode(),
    ):
        assert SEALED in text
        for condition in CONDITIONS:
            assert condition in text


def test_it_is_read_again_as_it_was_written() -> None:
    written = sealed_report()
    assert parse_report(dump_report(written), name="audit.json") == written


@pytest.mark.parametrize("access", ["weights", "black-box"])
def test_an_open_model_without_its_tries_is_refused(access: str) -> None:
    table = json.loads(dump_report(sealed_report()))
    table["subject"]["access"] = access
    with pytest.raises(ReportError, match="do not fit a model whose access was"):
        parse_report(json.dumps(table).encode(), name="audit.json")


def test_a_sealed_model_with_tries_is_refused() -> None:
    table = json.loads(dump_report(report()))
    table["subject"]["access"] = "sealed"
    with pytest.raises(ReportError, match="access was sealed"):
        parse_report(json.dumps(table).encode(), name="audit.json")


def test_a_report_from_before_bundles_were_audited_is_still_read(
    tmp_path: Path,
) -> None:
    table = json.loads(dump_report(report()))
    del table["subject"]["access"]
    del table["findings"]["not_run"]
    assert parse_report(json.dumps(table).encode(), name="audit.json") == report()


def test_it_stands_beside_others_without_a_number_that_nobody_measured() -> None:
    other = dataclasses.replace(
        report(), subject=dataclasses.replace(report().subject, protection_id="01" * 16)
    )
    pair = [Entry(1, "sealed", sealed_report()), Entry(2, "open", other)]
    compared = compare(pair)
    (group,) = compared.groups
    assert "different-access" in {one.code for one in group.differences}
    numbers = json.loads(dump_comparison(compared))["groups"][0]["audits"][0]
    assert (numbers["no_key"], numbers["incorrect_maximum"]) == (None, None)
    assert "sealed without" in render_comparison(compared)
    Console(file=io.StringIO(), width=200).print(comparison_table(compared))
