"""junit.xml: a case for each claim, in the words that CI systems understand."""

import dataclasses
from xml.etree import ElementTree

import pytest

from mlguard.audit.findings.attacks import NotRun
from mlguard.audit.findings.verdicts import exit_code
from mlguard.audit.report.junit import junit_xml
from mlguard.audit.report.schema import AuditReport
from tests.audits import VERDICTS, attacked_report, attacks, report


def claiming() -> AuditReport:
    """A report with attacks, and a claim of each answer."""
    return dataclasses.replace(attacked_report(), verdicts=VERDICTS)


def suite_of(written: AuditReport) -> ElementTree.Element:
    (suite,) = ElementTree.fromstring(junit_xml(written, proved=True))
    return suite


def outcomes(suite: ElementTree.Element) -> dict[str, list[str]]:
    """What each case holds, by its name."""
    return {
        case.get("name", ""): [part.tag for part in case]
        for case in suite.iter("testcase")
    }


def test_every_claim_is_a_case() -> None:
    assert outcomes(suite_of(claiming())) == {
        "fidelity": ["system-out"],
        "random-keys": ["failure"],
        "key-search": ["error"],
        "exhaustive": ["skipped"],
    }


def test_the_counts_are_those_of_the_cases() -> None:
    suite = suite_of(claiming())
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "1", "skipped": "1"}


@pytest.mark.parametrize("answers", [VERDICTS[:1], VERDICTS[:2], VERDICTS, ()])
def test_a_pipeline_stops_where_the_exit_code_stops_it(answers: tuple) -> None:
    """A CI system is red if there is a failure or an error, and only then."""
    written = dataclasses.replace(report(), verdicts=answers)
    kinds = [kind for kinds in outcomes(suite_of(written)).values() for kind in kinds]
    red = bool({"failure", "error"} & set(kinds))
    assert red == (exit_code(answers) != 0)


def test_a_reason_is_in_the_words() -> None:
    (error,) = suite_of(claiming()).iter("error")
    assert error.get("type") == "INCONCLUSIVE"
    assert "0.500 (few-images)" in (error.get("message") or "")


def test_an_unproved_report_stops_a_pipeline() -> None:
    passed = dataclasses.replace(report(), verdicts=VERDICTS[:1])
    (suite,) = ElementTree.fromstring(junit_xml(passed, proved=False))
    assert outcomes(suite) == {"fidelity": ["system-out"], "proof": ["error"]}
    assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
    assert outcomes(suite_of(passed)) == {"fidelity": ["system-out"]}


def test_what_could_not_be_run_is_skipped_with_its_reason() -> None:
    suite = suite_of(claiming())
    (case,) = (c for c in suite.iter("testcase") if c.get("name") == "exhaustive")
    assert case.get("classname") == "mlguard.audit.not-run"
    assert [part.get("message") for part in case] == ["too many keys"]


def test_what_was_not_asked_for_is_no_case() -> None:
    left_out = NotRun(attack="gradient", reason="not-asked", message="nobody asked")
    section = attacks(not_run=[left_out])
    written = dataclasses.replace(attacked_report(), attacks=section)
    assert "gradient" not in outcomes(suite_of(written))


def test_what_comes_from_a_file_cannot_break_the_file() -> None:
    odd = '"]]><evil/>&\x00\x1b\ud800\uffff'
    material = dataclasses.replace(report().material, split=odd)
    suite = suite_of(dataclasses.replace(report(), material=material))
    facts = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert facts["split"] == '"]]><evil/>&' + "\N{REPLACEMENT CHARACTER}" * 4
    assert not list(suite.iter("evil"))
