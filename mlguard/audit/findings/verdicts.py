"""Decide claims: numbers beside the thresholds that the recipe's owner set.

A claim is made by setting its threshold in the recipe's [audit] section; nothing is
decided that nobody claimed. A verdict is decided once, from findings and flags, before
anything is rendered, and the exit code follows from the verdicts alone.
docs/spec/audit-v2.md, section 5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from mlguard import recipe
from mlguard.audit.findings.attacks import AttackSection
from mlguard.audit.findings.numbers import STRICT, Findings, Interval, Ratio

Claim = Literal[
    "fidelity",
    "random-keys",
    "key-search",
    "retraining",
    "known-plaintext",
    "public-ancestor",
]
Answer = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Code = Annotated[str, Field(pattern="^[a-z][a-z-]*$")]

NO_KEY_RUNGS = ("T0", "T1")
FAILED, UNMEASURED = 30, 31  # exit codes; the second outranks the first

ATTACKS_OF: dict[Claim, tuple[str, ...]] = {
    "key-search": (
        "exhaustive",
        "integer-seeds",
        "hill-climbing",
        "gradient",
        "weights-only",
    ),
    "retraining": ("retraining",),
    "known-plaintext": ("known-plaintext", "transformed-images"),
    "public-ancestor": ("public-ancestor",),
}
NOT_NEEDED = {"integer-seeds"}  # a key is none; where it ran, it counts
DOUBTS = ("training-images", "reference-near-floor", "few-images")  # void any PASS
DOUBTS_OF: dict[Claim, tuple[str, ...]] = {
    "fidelity": (),
    "random-keys": ("few-keys", "correct-below-baseline"),
    "key-search": ("attack-not-converged", "correct-below-baseline"),
    "retraining": (
        "attack-not-converged",
        "control-not-converged",
        "control-strong",
        "nothing-to-steal",
        "correct-below-baseline",
    ),
    "known-plaintext": ("attack-not-converged", "correct-below-baseline"),
    "public-ancestor": ("correct-below-baseline",),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one claim.

    Attributes:
        claim: Its name.
        answer: PASS, FAIL or INCONCLUSIVE.
        measured: The number it is about; None where it was not measured.
        interval: Its 95 % interval over images.
        threshold: What the recipe allows.
        reasons: Why it is INCONCLUSIVE: codes of flags, "not-measured", or
            "interval-crosses-threshold".
    """

    __pydantic_config__ = STRICT

    claim: Claim
    answer: Answer
    measured: Ratio | None
    interval: Interval | None
    threshold: Ratio
    reasons: tuple[Code, ...]


@dataclass(frozen=True)
class _Measured:
    value: float | None
    interval: Interval | None
    converged: bool = True
    complete: bool = True  # whether all was run that can make the value larger


def decide(
    settings: recipe.Audit,
    findings: Findings,
    attacks: AttackSection | None,
    flags: Sequence[str],
) -> tuple[Verdict, ...]:
    """Decide every claim that the recipe makes.

    Args:
        settings: The recipe's [audit] section: a threshold that is set is a claim.
        findings: Of the first two rungs.
        attacks: What attacks found; None if none were run.
        flags: Codes of the flags that were raised.
    """
    return tuple(_verdicts(settings, findings, attacks, set(flags)))


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 if every claim passed; unmeasured outranks failed."""
    answers = {verdict.answer for verdict in verdicts}
    if "INCONCLUSIVE" in answers:
        return UNMEASURED
    return FAILED if "FAIL" in answers else 0


def contradiction(verdict: Verdict) -> str:
    """Why the rules could not have given this answer; empty if they could."""
    value, answer = verdict.measured, verdict.answer
    if answer == "INCONCLUSIVE":
        return "" if verdict.reasons else "there is no reason"
    if verdict.reasons:
        return "there is a reason for doubt"
    if value is None:
        return "nothing was measured"
    beyond = _beyond(verdict.claim, value, verdict.threshold)
    if beyond != (answer == "FAIL"):
        side = "beyond" if beyond else "within"
        return f"{value:.3f} is {side} the threshold {verdict.threshold:g}"
    return ""


def _verdicts(
    settings: recipe.Audit,
    findings: Findings,
    attacks: AttackSection | None,
    flags: set[str],
) -> Iterator[Verdict]:
    if settings.min_fidelity is not None:
        measured = _Measured(findings.fidelity, findings.fidelity_interval)
        verdict = _verdict("fidelity", measured, settings.min_fidelity, flags)
        if verdict.answer == "PASS":
            # The owner said how far below the baseline is meant, and it is not further.
            flags = flags - {"correct-below-baseline"}
        yield verdict
    if settings.max_leakage is not None:
        measured = _leakage(findings, attacks)
        yield _verdict("random-keys", measured, settings.max_leakage, flags)
    limits: dict[Claim, float | None] = {
        "key-search": settings.max_key_search,
        "retraining": settings.max_retraining,
        "known-plaintext": settings.max_known_plaintext,
        "public-ancestor": settings.max_public_ancestor,
    }
    for claim, limit in limits.items():
        if limit is not None:
            yield _verdict(claim, _worst_of(claim, attacks), limit, flags)


def _verdict(
    claim: Claim, measured: _Measured, threshold: float, flags: set[str]
) -> Verdict:
    reasons: tuple[str, ...] = ()
    answer: Answer = "PASS"
    if measured.value is None:
        answer, reasons = "INCONCLUSIVE", ("not-measured",)
    elif _beyond(claim, measured.value, threshold):
        answer = "FAIL"
    else:
        reasons = tuple(_doubts(claim, measured, threshold, flags))
        if not measured.complete:
            reasons = ("not-measured", *reasons)
        answer = "INCONCLUSIVE" if reasons else "PASS"
    return Verdict(
        claim=claim,
        answer=answer,
        measured=measured.value,
        interval=measured.interval,
        threshold=threshold,
        reasons=reasons,
    )


def _doubts(
    claim: Claim, measured: _Measured, threshold: float, flags: set[str]
) -> Iterator[str]:
    ends = measured.interval
    if ends is not None and _beyond(
        claim, ends.low if claim == "fidelity" else ends.high, threshold
    ):
        yield "interval-crosses-threshold"
    for code in (*DOUBTS, *DOUBTS_OF[claim]):
        of_another = code == "attack-not-converged" and measured.converged
        if code in flags and not of_another:
            yield code


def _beyond(claim: Claim, value: float, threshold: float) -> bool:
    return value < threshold if claim == "fidelity" else value > threshold


def _leakage(findings: Findings, attacks: AttackSection | None) -> _Measured:
    """Of no key and random keys, and of whoever did a little more without a key."""
    worst = _Measured(findings.leakage, findings.leakage_interval)
    if worst.value is None or attacks is None:
        return worst
    reference = (findings.baseline or findings.correct).score
    for one in attacks.findings:
        if one.rung in NO_KEY_RUNGS and (one.leakage or 0.0) > (worst.value or 0.0):
            low, high = (
                min(
                    1.0, max(0.0, (end - findings.floor) / (reference - findings.floor))
                )
                for end in (one.score_interval.low, one.score_interval.high)
            )
            worst = _Measured(one.leakage, Interval(low=low, high=high))
    return worst


def _worst_of(claim: Claim, attacks: AttackSection | None) -> _Measured:
    """The largest stolen value of the attacks that a claim is about.

    Every attack of the claim that can run on the model must have been run. What needs
    weights that this audit did not have somebody else can still do: then the largest
    value is only what it is at least.
    """
    names = set(ATTACKS_OF[claim])
    if attacks is None:
        return _Measured(None, None)
    skipped = {one.attack for one in attacks.not_run if one.reason == "not-asked"}
    weightless = {x.attack for x in attacks.not_run if x.reason == "needs-weights"}
    own = [finding for finding in attacks.findings if finding.attack in names]
    known = [finding for finding in own if finding.stolen_value is not None]
    if skipped & names - NOT_NEEDED or not known:
        return _Measured(None, None)
    worst = max(known, key=lambda finding: finding.stolen_value or 0.0)
    converged = all(finding.converged for finding in own)
    return _Measured(
        worst.stolen_value,
        worst.stolen_value_interval,
        converged,
        complete=not weightless & names,
    )
