"""The verdicts of an audit as JUnit XML, which every CI system shows.

PASS is a test that passed and FAIL one that failed. INCONCLUSIVE is an `<error>` and
not a `<skipped>`: what was claimed and could not be measured must stop a pipeline, and
CI systems let a skipped test through. docs/spec/audit-v2.md, section 6.
"""

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from mlguard.audit.report import AuditReport
from mlguard.audit.terminal import verdict_words
from mlguard.audit.verdicts import Verdict

SUITE = "mlguard audit"
NO_CLAIM = "the recipe's [audit] section makes no claim, so nothing was decided"

# What XML 1.0 has no way to write, not even escaped.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: AuditReport) -> bytes:
    """One test case for each claim; a single skipped one where there is no claim."""
    answers = [verdict.answer for verdict in report.verdicts]
    suite = Element(
        "testsuite",
        name=SUITE,
        tests=str(max(1, len(answers))),
        failures=str(answers.count("FAIL")),
        errors=str(answers.count("INCONCLUSIVE")),
        skipped=str(int(not answers)),
        timestamp=report.created.removesuffix("Z"),
        time="0",
    )
    properties = SubElement(suite, "properties")
    for name, value in _facts(report).items():
        SubElement(properties, "property", name=name, value=_writable(value))
    for verdict in report.verdicts:
        _add_case(suite, verdict)
    if not answers:
        SubElement(_case(suite, "claims"), "skipped", message=NO_CLAIM)
    suites = Element("testsuites")
    suites.append(suite)
    indent(suites)
    written: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _facts(report: AuditReport) -> dict[str, str]:
    return {
        "key_id": report.subject.key_id,
        "protection_id": report.subject.protection_id,
        "recipe_sha256": report.subject.recipe_sha256,
        "data_sha256": report.material.fingerprint,
        "split": report.material.split,
        "seed": str(report.seed),
        "mlguard": report.versions.get("mlguard", ""),
    }


def _add_case(suite: Element, verdict: Verdict) -> None:
    case = _case(suite, verdict.claim)
    words = _writable(verdict_words(verdict))
    if verdict.answer == "PASS":
        SubElement(case, "system-out").text = words
        return
    kind = "failure" if verdict.answer == "FAIL" else "error"
    SubElement(case, kind, type=verdict.answer, message=words).text = words


def _case(suite: Element, name: str) -> Element:
    return SubElement(suite, "testcase", classname="mlguard.audit", name=name, time="0")


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
