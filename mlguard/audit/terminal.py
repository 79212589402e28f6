"""An audit as a table for a terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mlguard.audit.findings import Findings, Interval, Score
from mlguard.audit.report import AuditReport
from mlguard.audit.words import NOTHING, number, percent, reference_column, verdict

Cells = tuple[str, str, str, str, str]


def report_table(report: AuditReport) -> Group:
    """The table, the verdict in words, and every flag."""
    findings = report.findings
    table = Table(title="Who gets what", title_justify="left")
    table.add_column("condition")
    reference = reference_column(findings)
    for heading in ("mIoU", "leakage", f"of {reference}", "95 % interval"):
        table.add_column(heading, justify="right")
    for cells in rows(findings):
        table.add_row(*cells)
    flags = [Text(f"warning: {flag.message}", style="yellow") for flag in report.flags]
    bits = Text(f"Effective key space: {findings.key_space_bits:.1f} bits.")
    return Group(table, Text(verdict(findings)), bits, *flags)


def rows(findings: Findings) -> list[Cells]:
    """Condition, mIoU, leakage, share of the reference and interval, as words."""
    keys, floor = findings.incorrect, findings.floor
    reference = (findings.baseline or findings.correct).miou

    def row(
        name: str, miou: float, leakage: float | None, interval: Interval | None
    ) -> Cells:
        share = miou / reference if reference > 0 else None
        between = f"{interval.low:.3f} – {interval.high:.3f}" if interval else NOTHING
        return name, number(miou), percent(leakage), percent(share), between

    def score(name: str, of: Score) -> Cells:
        return row(name, of.miou, of.leakage, of.miou_interval)

    return [
        *([score("baseline", findings.baseline)] if findings.baseline else []),
        score("correct key", findings.correct),
        score("no key", findings.no_key),
        row(
            f"incorrect keys, mean of {len(keys.miou)}",
            keys.mean,
            keys.mean_leakage,
            keys.mean_interval,
        ),
        row(
            f"incorrect keys, best of {len(keys.miou)}",
            keys.maximum,
            keys.maximum_leakage,
            keys.maximum_interval,
        ),
        row("floor (constant answer)", floor, 0.0, None),
    ]
