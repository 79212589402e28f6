"""Decide claims: compare numbers with their thresholds.

Every audit makes four claims, and more if its recipe sets a threshold. Each names the
source of its threshold: the recipe, an option of the command, or the default. A verdict
follows from findings and flags alone, so anybody with these can decide again; the exit
code follows from the verdicts. If every file of a model is sealed, the claims are about
a thief with the files. docs/spec/audit-v4.md, section 8.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from mlguard import recipe
from mlguard.audit.findings.attacks import AttackSection
from mlguard.audit.findings.numbers import STRICT, Findings, Interval, Ratio, leakage_of
from mlguard.rules import ALL_ATTACKS, ANCESTOR_ATTACKS
from mlguard.transforms import MIN_KEY_SPACE_BITS, SECRET_BITS

Claim = Literal[
    "fidelity",
    "random-keys",
    "key-bits",
    "stolen-value",
    "key-search",
    "retraining",
    "known-plaintext",
    "public-ancestor",
]
CLAIMS: tuple[Claim, ...] = get_args(Claim)
SetBy = Literal["recipe", "option", "default"]
Answer = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Code = Annotated[str, Field(pattern="^[a-z][a-z-]*$")]

NO_KEY_RUNGS = ("T0", "T1")
FAILED, UNMEASURED = 30, 31  # exit codes; the second outranks the first

# The default purpose of a protected model: a thief with the weights and no key should
# get little of the model's worth.
DEFAULTS: dict[Claim, float] = {
    "fidelity": 0.9,
    "random-keys": 0.2,
    "key-bits": MIN_KEY_SPACE_BITS,
    "stolen-value": 0.2,
}
FIELDS: dict[Claim, str] = {  # of the recipe's [audit] section
    "fidelity": "min_fidelity",
    "random-keys": "max_leakage",
    "key-bits": "min_key_bits",
    "stolen-value": "max_stolen_value",
    "key-search": "max_key_search",
    "retraining": "max_retraining",
    "known-plaintext": "max_known_plaintext",
    "public-ancestor": "max_public_ancestor",
}
AT_LEAST: tuple[Claim, ...] = ("fidelity", "key-bits")  # the others are upper bounds

KNOWN_PLAINTEXT = ("known-plaintext", "transformed-images")
ATTACKS_OF: dict[Claim, tuple[str, ...]] = {
    "key-search": (
        "exhaustive",
        "integer-seeds",
        "hill-climbing",
        "gradient",
        "weights-only",
    ),
    "retraining": ("retraining", "patient-retraining"),
    "known-plaintext": KNOWN_PLAINTEXT,
    "public-ancestor": (*ANCESTOR_ATTACKS, "known-initialization"),
    "stolen-value": tuple(name for name in ALL_ATTACKS if name not in KNOWN_PLAINTEXT),
}
NOT_NEEDED = {"integer-seeds"}  # a key is not one; if it ran, it counts
DOUBTS = (
    "old-proof",
    "training-images",
    "reference-near-floor",
    "few-images",
)  # void any PASS
OF_TRAINING = ("control-not-converged", "control-strong", "nothing-to-steal")
DOUBTS_OF: dict[Claim, tuple[str, ...]] = {
    "fidelity": DOUBTS,
    "random-keys": (*DOUBTS, "few-keys", "correct-below-baseline"),
    "key-bits": (),
    "stolen-value": (
        *DOUBTS,
        "attack-not-converged",
        *OF_TRAINING,
        "correct-below-baseline",
    ),
    "key-search": (*DOUBTS, "attack-not-converged", "correct-below-baseline"),
    "retraining": (
        *DOUBTS,
        "attack-not-converged",
        *OF_TRAINING,
        "correct-below-baseline",
    ),
    "known-plaintext": (*DOUBTS, "attack-not-converged", "correct-below-baseline"),
    "public-ancestor": (*DOUBTS, "correct-below-baseline"),
}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One claim, and how far its number may go.

    Attributes:
        claim: Its name.
        threshold: The lower bound for `fidelity` and `key-bits`; the upper bound for
            the others.
        source: The source of the threshold.
    """

    __pydantic_config__ = STRICT

    claim: Claim
    threshold: Ratio
    source: SetBy


@dataclass(frozen=True, kw_only=True)
class Verdict(Limit):
    """The verdict on one claim.

    Attributes:
        answer: PASS, FAIL or INCONCLUSIVE.
        measured: The number that it is about; None if it was not measured.
        interval: Its 95 % interval over images.
        reasons: Why it is INCONCLUSIVE: codes of flags, "not-measured", or
            "interval-crosses-threshold".
    """

    answer: Answer
    measured: Ratio | None
    interval: Interval | None
    reasons: tuple[Code, ...]


def limits_of(
    settings: recipe.Audit, options: Mapping[Claim, float] | None = None
) -> tuple[Limit, ...]:
    """Return the claims of an audit: options override the recipe, the recipe defaults.

    Args:
        settings: The recipe's [audit] section.
        options: Thresholds given on the command line.
    """
    chosen = []
    for claim in CLAIMS:
        sources: list[tuple[SetBy, float | None]] = [
            ("option", (options or {}).get(claim)),
            ("recipe", getattr(settings, FIELDS[claim])),
            ("default", DEFAULTS.get(claim)),
        ]
        chosen += [
            Limit(claim=claim, threshold=threshold, source=source)
            for source, threshold in sources
            if threshold is not None
        ][:1]
    return tuple(chosen)


@dataclass(frozen=True)
class _Measured:
    value: float | None
    interval: Interval | None
    converged: bool = True
    complete: bool = True  # whether everything ran that can make the value larger


def decide(
    limits: Sequence[Limit],
    findings: Findings,
    attacks: AttackSection | None,
    flags: Sequence[str],
    *,
    sealed_files: bool = False,
) -> tuple[Verdict, ...]:
    """Decide every claim, in order.

    Args:
        limits: The claims.
        findings: The findings of the first two rungs.
        attacks: The findings of attacks; None if none were run.
        flags: The codes of the flags that were raised.
        sealed_files: Whether every weight is sealed in all files. Then the claims are
            about a thief with the files, and `findings` and `attacks` about one with
            the opened model, about whom nothing is claimed.
    """
    left, verdicts = set(flags), []
    for limit in sorted(limits, key=lambda one: CLAIMS.index(one.claim)):
        if sealed_files and limit.claim != "fidelity":
            verdicts.append(_verdict(limit, _from_files(limit.claim), set()))
            continue
        measured = _measured(limit.claim, findings, attacks)
        verdict = _verdict(limit, measured, left)
        if limit.claim == "fidelity" and verdict.answer == "PASS":
            # The fidelity claim accepts a score below the baseline, and it is met.
            left -= {"correct-below-baseline"}
        verdicts.append(verdict)
    return tuple(verdicts)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return 0 if every claim passed; unmeasured outranks failed."""
    answers = {verdict.answer for verdict in verdicts}
    if "INCONCLUSIVE" in answers:
        return UNMEASURED
    return FAILED if "FAIL" in answers else 0


def _from_files(claim: Claim) -> _Measured:
    """Return the findings for sealed files, which cannot run without the key.

    So the answer is constant, and its leakage and stolen value are 0.
    """
    return _Measured(SECRET_BITS if claim == "key-bits" else 0.0, None)


def _measured(
    claim: Claim, findings: Findings, attacks: AttackSection | None
) -> _Measured:
    if claim == "fidelity":
        return _Measured(findings.fidelity, findings.fidelity_interval)
    if claim == "random-keys":
        return _leakage(findings, attacks)
    if claim == "key-bits":
        return _Measured(findings.key_space_bits, None)
    return _worst_of(claim, attacks)


def _verdict(limit: Limit, measured: _Measured, flags: set[str]) -> Verdict:
    claim, threshold = limit.claim, limit.threshold
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
        source=limit.source,
        reasons=reasons,
    )


def _doubts(
    claim: Claim, measured: _Measured, threshold: float, flags: set[str]
) -> Iterator[str]:
    ends = measured.interval
    if ends is not None and _beyond(
        claim, ends.low if claim in AT_LEAST else ends.high, threshold
    ):
        yield "interval-crosses-threshold"
    for code in DOUBTS_OF[claim]:
        of_another = code == "attack-not-converged" and measured.converged
        if code in flags and not of_another:
            yield code


def _beyond(claim: Claim, value: float, threshold: float) -> bool:
    return value < threshold if claim in AT_LEAST else value > threshold


def _leakage(findings: Findings, attacks: AttackSection | None) -> _Measured:
    """Return the leakage of no key, random keys, and the attack without a key."""
    worst = _Measured(findings.leakage, findings.leakage_interval)
    if worst.value is None or attacks is None:
        return worst
    reference = (findings.baseline or findings.correct).score
    for one in attacks.findings:
        if one.rung in NO_KEY_RUNGS and (one.leakage or 0.0) > (worst.value or 0.0):
            low, high = (
                leakage_of(end, findings.floor, reference) or 0.0
                for end in (one.score_interval.low, one.score_interval.high)
            )
            worst = _Measured(one.leakage, Interval(low=low, high=high))
    return worst


def _worst_of(claim: Claim, attacks: AttackSection | None) -> _Measured:
    """Return the largest stolen value of the attacks that a claim is about.

    If an attack was not requested, or needs weights that this audit lacked, an
    adversary can still run it: then the largest value is only a lower bound.
    """
    names = set(ATTACKS_OF[claim])
    if attacks is None:
        return _Measured(None, None)
    open_still = {
        one.attack
        for one in attacks.not_run
        if one.reason in ("not-asked", "needs-weights")
    } - NOT_NEEDED
    own = [finding for finding in attacks.findings if finding.attack in names]
    known = [finding for finding in own if finding.stolen_value is not None]
    if not known:
        return _Measured(None, None)
    worst = max(known, key=lambda finding: finding.stolen_value or 0.0)
    converged = all(finding.converged for finding in own)
    return _Measured(
        worst.stolen_value,
        worst.stolen_value_interval,
        converged,
        complete=not open_still & names,
    )
