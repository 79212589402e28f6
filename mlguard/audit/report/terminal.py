"""Print an audit as a table for a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mlguard.audit.findings import (
    AttackSection,
    Findings,
    Verdict,
)
from mlguard.audit.report.audit_report import AuditReport
from mlguard.audit.report.cells import attack_rows, rows
from mlguard.audit.report.words import (
    UNPROVED,
    headline,
    reference_column,
    verdict,
    verdict_words,
)
from mlguard.transforms import said_bits

STYLES = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


def report_table(report: AuditReport, *, proved: bool) -> Group:
    """Return the table, the verdict in words, and every flag.

    Args:
        report: The audit.
        proved: Whether the numbers are proved by the key.
    """
    findings = report.findings
    table = Table(title="Who gets what", title_justify="left")
    table.add_column("condition")
    reference = reference_column(findings)
    for heading in (
        findings.vocabulary.score,
        "leakage",
        f"of {reference}",
        "95 % interval",
    ):
        table.add_column(heading, justify="right")
    sealed_files = report.subject.sealed_files
    for cells in rows(findings, sealed_files=sealed_files):
        table.add_row(*map(Text, cells))  # a name is not markup
    flags = [Text(f"warning: {flag.message}", style="yellow") for flag in report.flags]
    left_out = [
        Text(f"not run: {one.condition}: {one.message}") for one in findings.not_run
    ]
    bits = Text(f"Effective key space: {said_bits(findings.key_space_bits)}.")
    return Group(
        *([] if proved else [Text(f"{UNPROVED}.", style="red")]),
        table,
        *left_out,
        *_attacks(report.attacks, findings),
        Text(verdict(findings, sealed_files=sealed_files)),
        *([Text(headline(report.attacks))] if report.attacks else []),
        bits,
        *flags,
        *(_verdict_line(one, report) for one in report.verdicts),
    )


def _attacks(section: AttackSection | None, findings: Findings) -> list[RenderableType]:
    if section is None:
        return []
    table = Table(title="Who gets more", title_justify="left")
    table.add_column("attack", no_wrap=True)
    table.add_column("rung, images")
    for heading in (findings.vocabulary.score, "control", "stolen value"):
        table.add_column(heading, justify="right")
    for name, rung, images, score, _, control, stolen, _ in attack_rows(section):
        cells = (name, f"{rung}, {images}", score, control, stolen)
        table.add_row(*map(Text, cells))  # a name is not markup
    below = [f"not run: {one.attack}: {one.message}" for one in section.not_run]
    if not all(finding.converged for finding in section.findings):
        below.insert(0, "* did not converge within the budget")
    return [*([table] if section.findings else []), *map(Text, below)]


def _verdict_line(one: Verdict, report: AuditReport) -> Text:
    style = STYLES[one.answer]
    return Text.assemble((one.answer, style), f"  {verdict_words(one, report)}")
