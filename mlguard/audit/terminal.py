"""An audit as a table for a terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mlguard.audit.findings import Findings, Score
from mlguard.audit.report import AuditReport
from mlguard.audit.words import NOTHING, number, percent, verdict

Cells = tuple[str, str, str, str, str]


def report_table(report: AuditReport) -> Group:
    """The table, the verdict in words, and every flag."""
    findings = report.findings
    table = Table(title="Who gets what", title_justify="left")
    table.add_column("condition")
    for heading in ("mIoU", "95 % interval", f"of {findings.reference}", "leakage"):
        table.add_column(heading, justify="right")
    for cells in rows(findings):
        table.add_row(*cells)
    flags = [Text(f"warning: {flag.message}", style="yellow") for flag in report.flags]
    bits = Text(f"Effective key space: {findings.key_space_bits:.1f} bits.")
    return Group(table, Text(verdict(findings)), bits, *flags)


def rows(findings: Findings) -> list[Cells]:
    """The table's rows: every condition, its mIoU and its ratios."""
    incorrect, floor = findings.incorrect, findings.floor
    reference = (findings.baseline or findings.correct).miou
    keys = len(incorrect.miou)
    low, high = incorrect.mean_interval.low, incorrect.mean_interval.high
    least, most = incorrect.maximum_interval.low, incorrect.maximum_interval.high

    def share(miou: float) -> str:
        return percent(miou / reference if reference > 0 else None)

    found: list[Cells] = []
    if findings.baseline:
        found.append(_row("baseline", findings.baseline))
    found.append(_row("correct key", findings.correct))
    found.append(_row("no key", findings.no_key))
    found.append(
        (
            f"incorrect keys, mean of {keys}",
            number(incorrect.mean),
            f"{low:.3f} – {high:.3f}",
            share(incorrect.mean),
            percent(incorrect.mean_leakage),
        )
    )
    found.append(
        (
            f"incorrect keys, best of {keys}",
            number(incorrect.maximum),
            f"{least:.3f} – {most:.3f}",
            share(incorrect.maximum),
            percent(incorrect.maximum_leakage),
        )
    )
    found.append(
        ("floor (constant answer)", number(floor), NOTHING, share(floor), percent(0))
    )
    return found


def _row(name: str, score: Score) -> Cells:
    interval = score.miou_interval
    return (
        name,
        number(score.miou),
        f"{interval.low:.3f} – {interval.high:.3f}",
        percent(score.of_reference),
        percent(score.leakage),
    )
