"""The verdicts of an audit as JUnit XML, which every CI system shows.

PASS is a test that passed and FAIL one that failed. INCONCLUSIVE is an `<error>` and
not a `<skipped>`: a claim that could not be measured must stop a pipeline, and CI
systems let a skipped test through. What could not run and was not claimed is skipped,
with its reason. docs/spec/audit-v4.md, section 11.
"""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from mlguard.audit.findings import Verdict
from mlguard.audit.report.audit_report import AuditReport
from mlguard.audit.report.words import UNPROVED, verdict_words

SUITE, CLASS = "mlguard audit", "mlguard.audit"

# Characters that XML 1.0 cannot express, not even escaped.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: AuditReport, *, proved: bool) -> bytes:
    """Return one test case for each claim, and one for what was not run.

    Args:
        report: The audit.
        proved: Whether it is proved by the key; if not, that is an error.
    """
    answers = [verdict.answer for verdict in report.verdicts]
    left_out = list(_not_run(report))
    unproved = int(not proved)
    suite = Element(
        "testsuite",
        name=SUITE,
        tests=str(len(answers) + unproved + len(left_out)),
        failures=str(answers.count("FAIL")),
        errors=str(answers.count("INCONCLUSIVE") + unproved),
        skipped=str(len(left_out)),
        timestamp=report.created.removesuffix("Z"),
        time="0",
    )
    properties = SubElement(suite, "properties")
    for name, value in _facts(report).items():
        SubElement(properties, "property", name=name, value=_writable(value))
    for verdict in report.verdicts:
        _add_case(suite, verdict, report)
    if unproved:
        SubElement(_case(suite, "proof"), "error", type="UNPROVED", message=UNPROVED)
    for name, why in left_out:
        case = _case(suite, name, kind=f"{CLASS}.not-run")
        SubElement(case, "skipped", message=_writable(why))
    suites = Element("testsuites")
    suites.append(suite)
    indent(suites)
    written: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _not_run(report: AuditReport) -> Iterator[tuple[str, str]]:
    """Return what could not run, and why, except what was not requested."""
    for condition in report.findings.not_run:
        yield condition.condition, condition.message
    for one in report.attacks.not_run if report.attacks else ():
        if one.reason != "not-asked":
            yield one.attack, one.message


def _facts(report: AuditReport) -> dict[str, str]:
    return {
        "key_id": report.subject.key_id,
        "protection_id": report.subject.protection_id,
        "recipe_sha256": report.subject.recipe_sha256 or "",
        "data_sha256": report.material.fingerprint,
        "split": report.material.split,
        "seed": str(report.seed),
        "mlguard": report.versions.get("mlguard", ""),
    }


def _add_case(suite: Element, verdict: Verdict, report: AuditReport) -> None:
    case = _case(suite, verdict.claim)
    words = _writable(verdict_words(verdict, report))
    if verdict.answer == "PASS":
        SubElement(case, "system-out").text = words
        return
    kind = "failure" if verdict.answer == "FAIL" else "error"
    SubElement(case, kind, type=verdict.answer, message=words).text = words


def _case(suite: Element, name: str, *, kind: str = CLASS) -> Element:
    return SubElement(suite, "testcase", classname=kind, name=name, time="0")


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
