"""An audit as a table for a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mlguard.audit.findings import (
    NEARBY_SHARE,
    AttackFinding,
    AttackSection,
    Findings,
    IncorrectKeys,
    Interval,
    Score,
    Verdict,
)
from mlguard.audit.report.schema import AuditReport
from mlguard.audit.report.words import (
    CLAIMS,
    NOTHING,
    attack_images,
    attack_name,
    headline,
    number,
    percent,
    reference_column,
    verdict,
)
from mlguard.transforms import said_bits

Cells = tuple[str, str, str, str, str]
AttackCells = tuple[str, str, str, str, str, str, str, str]
STYLES = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


def report_table(report: AuditReport) -> Group:
    """The table, the verdict in words, and every flag."""
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
    for cells in rows(findings):
        table.add_row(*map(Text, cells))  # a name is not markup
    flags = [Text(f"warning: {flag.message}", style="yellow") for flag in report.flags]
    left_out = [
        Text(f"not run: {one.condition}: {one.message}") for one in findings.not_run
    ]
    bits = Text(f"Effective key space: {said_bits(findings.key_space_bits)}.")
    return Group(
        table,
        *left_out,
        *_attacks(report.attacks, findings),
        Text(verdict(findings)),
        *([Text(headline(report.attacks))] if report.attacks else []),
        bits,
        *flags,
        *(_verdict_line(one) for one in report.verdicts),
    )


def attack_headings(findings: Findings) -> AttackCells:
    """What the columns of `attack_rows` are."""
    return (
        "attack",
        "rung",
        "images",
        findings.vocabulary.score,
        "leakage",
        "control",
        "stolen value",
        "95 % interval",
    )


def attack_rows(section: AttackSection) -> list[AttackCells]:
    """Every attack, as words."""
    return [_attack_row(finding) for finding in section.findings]


def verdict_words(one: Verdict) -> str:
    """A verdict's claim, number and reasons."""
    measured = "not measured" if one.measured is None else f"{one.measured:.3f}"
    why = f" ({', '.join(one.reasons)})" if one.reasons else ""
    return f"{CLAIMS[one.claim]} {one.threshold:g}: {measured}{why}"


def _attack_row(finding: AttackFinding) -> AttackCells:
    between = finding.stolen_value_interval
    return (
        attack_name(finding) + ("" if finding.converged else " *"),
        finding.rung,
        attack_images(finding),
        number(finding.score),
        percent(finding.leakage),
        number(finding.control),
        percent(finding.stolen_value),
        f"{percent(between.low)} – {percent(between.high)}" if between else NOTHING,
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


def _verdict_line(one: Verdict) -> Text:
    style = STYLES[one.answer]
    return Text.assemble((one.answer, style), f"  {verdict_words(one)}")


def rows(findings: Findings) -> list[Cells]:
    """Condition, score, leakage, share of the reference and interval, as words."""
    floor = findings.floor
    reference = (findings.baseline or findings.correct).score

    def row(
        name: str, score: float, leakage: float | None, interval: Interval | None
    ) -> Cells:
        share = score / reference if reference > 0 else None
        between = f"{interval.low:.3f} – {interval.high:.3f}" if interval else NOTHING
        return name, number(score), percent(leakage), percent(share), between

    def condition(name: str, of: Score) -> Cells:
        return row(name, of.score, of.leakage, of.score_interval)

    def tried(keys: IncorrectKeys) -> list[Cells]:
        number = len(keys.scores)
        return [
            row(
                f"incorrect keys, mean of {number}",
                keys.mean,
                keys.mean_leakage,
                keys.mean_interval,
            ),
            row(
                f"incorrect keys, best of {number}",
                keys.maximum,
                keys.maximum_leakage,
                keys.maximum_interval,
            ),
        ]

    nearest = _nearly_right(findings, reference)
    return [
        *([condition("baseline", findings.baseline)] if findings.baseline else []),
        condition("correct key", findings.correct),
        *([condition("no key", findings.no_key)] if findings.no_key else []),
        *(tried(findings.incorrect) if findings.incorrect else []),
        *([row(*nearest)] if nearest else []),
        row("floor (constant answer)", floor, 0.0, None),
    ]


def _nearly_right(
    findings: Findings, reference: float
) -> tuple[str, float, float | None, None] | None:
    """The nearby keys whose share of wrong entries is nearest to NEARBY_SHARE."""
    wrong = [point for point in findings.nearby if point.changed > 0]
    if not wrong:
        return None
    point = min(wrong, key=lambda point: abs(point.changed - NEARBY_SHARE))
    worth = reference - findings.floor
    reached = (point.mean - findings.floor) / worth if worth > 0 else None
    leakage = None if reached is None else min(max(reached, 0.0), 1.0)
    name = f"keys {percent(point.changed)} wrong, mean of {len(point.scores)}"
    return name, point.mean, leakage, None
