"""Check a report for numbers that contradict its own numbers.

Editing a report by hand is easier in one place than in all. Everything that follows
from scores is computed again here: ratios, the worst attack, flags and verdicts. Scores
and intervals cannot be recomputed from the report alone; audit.jsonl and a proof under
the key cover these.
"""

import math
from collections.abc import Iterator

from mlguard.audit.findings import (
    DEFAULTS,
    TOLD,
    AttackSection,
    Findings,
    Interval,
    Limit,
    decide,
    flags_of,
    leakage_of,
    stolen_value_of,
)
from mlguard.audit.report.audit_report import AuditReport
from mlguard.rules import MAX_CLASSES

ENDS = "an interval is outside 0 … 1, or ends before it begins"


def doubts(report: AuditReport) -> str:
    """Return why a report cannot be from an audit; empty if it can."""
    findings, attacks = report.findings, report.attacks
    found = [
        *_of_shape(findings),
        *_of_access(report),
        *_of_ratios(findings),
        *(() if attacks is None else _of_attacks(attacks, findings)),
    ]
    # Flags and verdicts are computed from the numbers above, which must hold first.
    return next(iter(found or _of_verdicts(report)), "")


def _of_shape(findings: Findings) -> Iterator[str]:
    """Check shapes, which types cannot express and a page could not draw."""
    scores = [findings.correct, findings.no_key, findings.baseline]
    present, keys = [one for one in scores if one is not None], findings.incorrect
    classes, most = len(findings.class_names), MAX_CLASSES[findings.task]
    lists = [findings.class_counts, *(score.class_scores for score in present)]
    lists += [] if keys is None else [keys.mean_class_scores]
    if any(len(entries) != classes for entries in lists):
        yield f"expected {classes} entries in every per-class list"
    if not 1 <= classes <= most:
        yield f"expected 1 to {most} classes"
    if not any(findings.class_counts):
        yield "class_counts: no pixel or image was scored"
    intervals = [
        *(score.score_interval for score in present),
        *(() if keys is None else (keys.mean_interval, keys.maximum_interval)),
        findings.leakage_interval,
    ]
    if any(i is not None and not i.low <= i.high <= 1 for i in intervals):
        yield ENDS
    if not _ordered(findings.fidelity_interval):
        yield ENDS


def _of_access(report: AuditReport) -> Iterator[str]:
    """Check that tries without the key are missing exactly if the model is sealed."""
    found, access = report.findings, report.subject.access
    missing = found.no_key is None, found.incorrect is None, bool(found.not_run)
    possible = {(True, True, True)} if access == "sealed" else {(False, False, False)}
    if access == "weights":  # in an opened model the key may do nothing
        possible.add((False, True, True))
    if missing not in possible or (found.incorrect is None and found.nearby):
        yield (
            "no_key, incorrect and nearby do not match a model whose access was "
            f"{report.subject.access}"
        )


def _of_ratios(findings: Findings) -> Iterator[str]:
    baseline, keys = findings.baseline, findings.incorrect
    reference = (baseline or findings.correct).score
    if findings.reference != ("correct" if baseline is None else "baseline"):
        yield "reference is not the reference of leakage"
    fidelity = None
    if baseline is not None and baseline.score > 0:
        fidelity = findings.correct.score / baseline.score
    tried: list[tuple[str, float | None, float | None]] = [
        ("fidelity", findings.fidelity, fidelity)
    ]
    floor, best = findings.floor, findings.best_try
    if findings.no_key is not None:
        own = findings.no_key
        known = leakage_of(own.score, floor, reference)
        tried.append(("no_key.leakage", own.leakage, known))
    if keys is not None:
        mean, maximum = sum(keys.scores) / len(keys.scores), max(keys.scores)
        tried += [
            ("incorrect.mean", keys.mean, mean),
            ("incorrect.maximum", keys.maximum, maximum),
            ("incorrect.mean_leakage", keys.mean_leakage, _leaked(mean, findings)),
            (
                "incorrect.maximum_leakage",
                keys.maximum_leakage,
                _leaked(maximum, findings),
            ),
        ]
    for point in findings.nearby:
        mean = sum(point.scores) / len(point.scores)
        tried += [
            ("nearby.mean", point.mean, mean),
            ("nearby.maximum", point.maximum, max(point.scores)),
        ]
    worst = None if best is None else leakage_of(best, floor, reference)
    tried.append(("leakage", findings.leakage, worst))
    yield from _unlike(tried)


def _of_attacks(attacks: AttackSection, findings: Findings) -> Iterator[str]:
    """Check what a round of attacks cannot find."""
    found = attacks.findings
    if attacks.worst is not None and attacks.worst >= len(found):
        yield "attacks.worst does not name a finding"
        return
    intervals = [
        *(finding.score_interval for finding in found),
        *(finding.stolen_value_interval for finding in found),
        attacks.stolen_value_interval,
    ]
    if not all(map(_ordered, intervals)):
        yield "an interval of an attack ends before it begins"
    controls = {one.images: one.score for one in attacks.controls}
    for trained in attacks.controls:
        best, name = max(trained.scratch, trained.ancestor or 0.0), trained.images
        yield from _unlike([(f"control with {name} images", trained.score, best)])
    for one in found:
        control = controls.get(one.labels, findings.floor)
        value = stolen_value_of(one.score, control, findings.correct.score)
        yield from _unlike(
            [
                (f"{one.attack}: control", one.control, control),
                (f"{one.attack}: leakage", one.leakage, _leaked(one.score, findings)),
                (f"{one.attack}: stolen_value", one.stolen_value, value),
            ]
        )
    values = [one.stolen_value for one in found if one.stolen_value is not None]
    worst = attacks.worst_finding
    yield from _unlike(
        [
            ("attacks.stolen_value", attacks.stolen_value, max(values, default=None)),
            (
                "the worst attack's stolen_value",
                None if worst is None else worst.stolen_value,
                attacks.stolen_value,
            ),
        ]
    )


def _of_verdicts(report: AuditReport) -> Iterator[str]:
    """Check that the verdicts follow from the numbers."""
    claims = [verdict.claim for verdict in report.verdicts]
    if len(set(claims)) < len(claims):
        yield "a claim has two verdicts"
    for claim in DEFAULTS:
        if claim not in claims:
            yield f"the claim {claim}, which every audit makes, has no verdict"
    for one in report.verdicts:
        if one.source == "default" and one.threshold != DEFAULTS.get(one.claim):
            yield f"the threshold of {one.claim} is not the default of its numbers"
    codes = [flag.code for flag in report.flags]
    raised = flags_of(
        report.findings,
        report.attacks,
        access=report.subject.access,
        sealed_files=report.subject.sealed_files,
        in_halves=report.subject.in_halves,
    )
    expected = [flag.code for flag in raised]
    if [code for code in codes if code not in TOLD] != expected:
        yield f"its numbers raise other flags: {', '.join(expected) or 'none'}"
    limits = [
        Limit(claim=one.claim, threshold=one.threshold, source=one.source)
        for one in report.verdicts
    ]
    decided = decide(
        limits,
        report.findings,
        report.attacks,
        codes,
        sealed_files=report.subject.sealed_files,
    )
    for verdict, answer in zip(report.verdicts, decided, strict=True):
        if verdict != answer:
            yield (
                f"the verdict on {verdict.claim} is {verdict.answer}, but its own "
                f"numbers make it {answer.answer}"
            )


def _leaked(score: float, findings: Findings) -> float | None:
    reference = (findings.baseline or findings.correct).score
    return leakage_of(score, findings.floor, reference)


def _unlike(
    numbers: list[tuple[str, float | None, float | None]],
) -> Iterator[str]:
    for name, said, computed in numbers:
        if (said is None) != (computed is None) or not math.isclose(
            said or 0.0, computed or 0.0, rel_tol=1e-9, abs_tol=1e-9
        ):
            yield f"{name} is {_shown(said)}, but its own numbers make it " + _shown(
                computed
            )


def _shown(value: float | None) -> str:
    return "null" if value is None else f"{value:.6g}"


def _ordered(interval: Interval | None) -> bool:
    return interval is None or interval.low <= interval.high
