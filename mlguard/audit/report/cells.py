"""An audit as the cells of its tables, the same in the terminal and on the page."""

from mlguard.audit.findings import (
    NEARBY_SHARE,
    AttackFinding,
    AttackSection,
    Findings,
    IncorrectKeys,
    Interval,
    Score,
    leakage_of,
)
from mlguard.audit.report.words import (
    NOTHING,
    attack_images,
    attack_name,
    number,
    percent,
)

Cells = tuple[str, str, str, str, str]
AttackCells = tuple[str, str, str, str, str, str, str, str]

# The name of a row if every weight is sealed in all files.
FROM_FILES = "only the files, no key: nothing to run"
FROM_MEMORY = "memory, "


def rows(findings: Findings, *, sealed_files: bool = False) -> list[Cells]:
    """Return condition, score, leakage, share of the reference and interval, as text.

    Args:
        findings: The findings of the first two rungs.
        sealed_files: Whether every weight is sealed in all files; then one row is about
            a thief with only the files, and the other rows without a key are about one
            with the opened model, from memory.
    """
    floor, taken = findings.floor, FROM_MEMORY if sealed_files else ""
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
                f"{taken}incorrect keys, mean of {number}",
                keys.mean,
                keys.mean_leakage,
                keys.mean_interval,
            ),
            row(
                f"{taken}incorrect keys, best of {number}",
                keys.maximum,
                keys.maximum_leakage,
                keys.maximum_interval,
            ),
        ]

    nearest = _nearly_right(findings, reference)
    return [
        *([condition("baseline", findings.baseline)] if findings.baseline else []),
        condition("correct key", findings.correct),
        *([row(FROM_FILES, floor, 0.0, None)] if sealed_files else []),
        *([condition(f"{taken}no key", findings.no_key)] if findings.no_key else []),
        *(tried(findings.incorrect) if findings.incorrect else []),
        *([row(f"{taken}{nearest[0]}", *nearest[1:])] if nearest else []),
        row("floor (constant answer)", floor, 0.0, None),
    ]


def _nearly_right(
    findings: Findings, reference: float
) -> tuple[str, float, float | None, None] | None:
    """Return the nearby keys with a share of wrong entries nearest to NEARBY_SHARE."""
    wrong = [point for point in findings.nearby if point.changed > 0]
    if not wrong:
        return None
    point = min(wrong, key=lambda point: abs(point.changed - NEARBY_SHARE))
    leakage = leakage_of(point.mean, findings.floor, reference)
    name = f"keys {percent(point.changed)} wrong, mean of {len(point.scores)}"
    return name, point.mean, leakage, None


def attack_headings(findings: Findings) -> AttackCells:
    """Return the headings of `attack_rows`."""
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
    """Return every attack, as text."""
    return [_attack_row(finding) for finding in section.findings]


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
