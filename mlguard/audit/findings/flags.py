"""Reasons to read an audit with care, found by rule from its findings.

A flag never changes a number. Each has a stable code, listed in
docs/spec/audit-v4.md, section 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mlguard.audit.findings.attacks import AttackSection
from mlguard.audit.findings.numbers import STRICT, Access, Findings, NearbyKeys
from mlguard.audit.findings.stolen_value import MIN_MARGIN
from mlguard.transforms import MIN_KEY_SPACE_BITS

MIN_IMAGES = 30  # below this, a bootstrap interval over images says little
MIN_INCORRECT_KEYS = 20  # below this, the largest of them says little
MIN_WORTH = 0.1  # score of the reference above the floor
NEARBY_SHARE = 0.25  # share of wrong entries; up to this, a key is nearly right
NEARBY_LEAKAGE = 0.25  # mean leakage at which nearly right keys help a search
STRONG_CONTROL = 0.5  # of the way from the floor to the correct key
# Flags that only the audit of a model can raise: they follow from no number in a
# report.
TOLD = ("old-proof", "training-images", "key-shown-by-weights")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A reason to read the findings with care.

    Attributes:
        code: Stable name, listed in docs/spec/audit-v4.md, section 5.
        message: The reason in words.
    """

    __pydantic_config__ = STRICT

    code: Annotated[str, Field(pattern="^[a-z][a-z-]*$")]
    message: str


def flags_of(
    findings: Findings,
    attacks: AttackSection | None = None,
    *,
    access: Access = "weights",
    sealed_files: bool = False,
    in_halves: bool = False,
    old_proof: bool = False,
    trained_on_these: bool = False,
    shown_by_weights: bool = False,
) -> tuple[Flag, ...]:
    """Return all flags, those that can void the whole audit first.

    Args:
        findings: The findings of the first two rungs.
        attacks: The findings of the rungs above; None if no attack was run.
        access: How the model was accessed.
        sealed_files: Whether every weight is sealed in all files.
        in_halves: Whether the host has nothing of the owner's.
        old_proof: Whether the run's proof omits its twin and its provenance.
        trained_on_these: Whether the model was trained on the audited images.
        shown_by_weights: Whether the weights reveal the transform of images.
    """
    return (
        *_about_the_access(access, sealed_files, in_halves),
        *(_old_proof() if old_proof else ()),
        *_told(findings, trained_on_these, shown_by_weights),
        *_about_the_audit(findings),
        *_about_the_model(findings),
        *(() if attacks is None else _about_the_attacks(attacks, findings)),
    )


def _about_the_access(
    access: Access, sealed_files: bool, in_halves: bool
) -> Iterator[Flag]:
    if in_halves and access == "weights":
        yield Flag(
            code="in-halves",
            message="the model is in two halves: whoever has the files, or the host's "
            "memory, has the public backbone; attacks are about the host, conditions "
            "without the key about somebody who took the private half from the memory "
            "of its client, which is the model",
        )
    elif sealed_files and access == "weights":
        yield Flag(
            code="from-memory",
            message="every weight is sealed in the files, and a thief with only the "
            "files cannot run the model: the claims are about the files; conditions "
            "and attacks are about a thief who took the opened model from memory",
        )
    if access == "black-box":
        yield Flag(
            code="black-box",
            message="the bundle was run as a black box: attacks that need its weights "
            "were not run, although a thief with the file can read the weights; audit "
            "the run folder for those",
        )
    if access == "sealed":
        yield Flag(
            code="sealed",
            message="the model is sealed: this shows what a user with the key gets, "
            "and nothing about a thief who obtained the opened model",
        )


def _old_proof() -> Iterator[Flag]:
    yield Flag(
        code="old-proof",
        message="the run is of version 0.1: its proof covers neither its plain twin "
        "nor its provenance, so anybody who could write to the folder could change "
        "both; protect the model again",
    )


def _told(
    findings: Findings, trained_on_these: bool, shown_by_weights: bool
) -> Iterator[Flag]:
    if trained_on_these:
        yield Flag(
            code="training-images",
            message="the model was trained on these images; its "
            f"{findings.vocabulary.score} on others is lower",
        )
    if shown_by_weights:
        yield Flag(
            code="key-shown-by-weights",
            message="zeros and equal weights of the stem reveal the transform of "
            "images, which is not counted in the key space",
        )


def _about_the_audit(findings: Findings) -> Iterator[Flag]:
    reference = findings.baseline or findings.correct
    if reference.score - findings.floor < MIN_WORTH:
        yield Flag(
            code="reference-near-floor",
            message=f"the {_name(findings)} reaches {reference.score:.3f} "
            f"{findings.vocabulary.score}, a constant answer {findings.floor:.3f}: "
            "there is little to protect, and leakage is a ratio of small numbers",
        )
    if findings.images < MIN_IMAGES:
        plural = "" if findings.images == 1 else "s"
        yield Flag(
            code="few-images",
            message=f"{findings.images} image{plural}; below {MIN_IMAGES} the "
            "intervals say little",
        )
    keys = 0 if findings.incorrect is None else len(findings.incorrect.scores)
    if 0 < keys < MIN_INCORRECT_KEYS:
        yield Flag(
            code="few-keys",
            message=f"{keys} incorrect key{'' if keys == 1 else 's'}; below "
            f"{MIN_INCORRECT_KEYS} the largest of them says little",
        )
    if findings.baseline is None:
        yield Flag(
            code="no-baseline",
            message="there is no plain twin, so fidelity is unknown and leakage is "
            "measured against the correct key; `mlguard protect --baseline` trains "
            "one, `mlguard bind` copies one, and a bundle has none",
        )
    if findings.absent_classes:
        yield Flag(
            code="absent-classes",
            message=f"no {findings.vocabulary.truth} shows "
            + ", ".join(findings.absent_classes)
            + f": {findings.vocabulary.score} is over the other classes",
        )


def _about_the_model(findings: Findings) -> Iterator[Flag]:
    if findings.key_space_bits < MIN_KEY_SPACE_BITS:
        yield Flag(
            code="key-space-small",
            message=f"the effective key space is {findings.key_space_bits:.1f} bits; "
            f"below {MIN_KEY_SPACE_BITS} an adversary can try all of them",
        )
    keys = findings.incorrect
    if keys is not None and keys.same_transform:
        yield Flag(
            code="key-collision",
            message=f"{keys.same_transform} of {len(keys.scores)} random keys gave "
            "exactly the correct transform, by chance",
        )
    helping = _nearby_that_help(findings)
    if keys is not None and helping is not None:
        yield Flag(
            code="nearby-keys-help",
            message=f"keys with {100 * helping.changed:.0f} % of their entries wrong "
            f"reach {helping.mean:.3f} {findings.vocabulary.score} on average, the "
            f"best incorrect key {keys.maximum:.3f}: a search that "
            "improves step by step will find its way",
        )
    interval = findings.fidelity_interval
    if interval is not None and interval.high < 1:
        yield Flag(
            code="correct-below-baseline",
            message="the correct key scores below the baseline by more than the choice "
            f"of images explains (fidelity {interval.low:.3f} to {interval.high:.3f})",
        )
    best = findings.best_try
    if best is not None and best >= findings.correct.score:
        yield Flag(
            code="unauthorized-not-below-correct",
            message="a try without the key scores as well as the correct key",
        )


def _about_the_attacks(section: AttackSection, findings: Findings) -> Iterator[Flag]:
    floor, correct = findings.floor, findings.correct.score
    if rough := [f for f in section.findings if not f.converged]:
        names = ", ".join(dict.fromkeys(f"{f.attack} ({f.variant})" for f in rough))
        yield Flag(
            code="attack-not-converged",
            message=f"{names}: the budget ended before the attack converged; a larger "
            "one may find more",
        )
    if rough_controls := [c.images for c in section.controls if not c.converged]:
        numbers = ", ".join(map(str, rough_controls))
        yield Flag(
            code="control-not-converged",
            message=f"the control with {numbers} labelled images was still learning: "
            "more steps would make it better, and the stolen value smaller",
        )
    limit = floor + STRONG_CONTROL * (correct - floor)
    if strong := [c.images for c in section.controls if c.score > limit]:
        yield Flag(
            code="control-strong",
            message=f"with {', '.join(map(str, strong))} labelled images a model "
            "trained without the stolen weights already gets more than half of the "
            "way to the correct key: these images say little about a theft",
        )
    if any(f.stolen_value is None for f in section.findings):
        yield Flag(
            code="nothing-to-steal",
            message="some stolen values do not exist, because the control is within "
            f"{MIN_MARGIN} {findings.vocabulary.score} of the correct key",
        )


def _nearby_that_help(findings: Findings) -> NearbyKeys | None:
    """Return the nearly right keys that help, those furthest from the correct key.

    A single random key can be near by luck, so the best of them must be beaten too.
    """
    reference = (findings.baseline or findings.correct).score
    enough = max(
        findings.floor + NEARBY_LEAKAGE * (reference - findings.floor),
        findings.incorrect.maximum if findings.incorrect else 0.0,
    )
    helping = [
        point
        for point in findings.nearby
        if point.share <= NEARBY_SHARE and point.changed > 0 and point.mean > enough
    ]
    return max(helping, key=lambda point: point.changed, default=None)


def _name(findings: Findings) -> str:
    return "baseline" if findings.baseline else "correct key"
