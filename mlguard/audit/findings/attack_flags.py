"""Reasons to read the findings of attacks with care, found by rule."""

from collections.abc import Iterator

from mlguard.audit.findings.attacks import AttackSection
from mlguard.audit.findings.flags import Flag
from mlguard.audit.findings.stolen_value import MIN_MARGIN

STRONG_CONTROL = 0.5  # of the way from the floor to the correct key


def attack_flags(
    section: AttackSection, *, floor: float, correct: float, score_name: str
) -> Iterator[Flag]:
    """Every reason that holds."""
    if rough := [f for f in section.findings if not f.converged]:
        names = ", ".join(dict.fromkeys(f"{f.attack} ({f.variant})" for f in rough))
        yield Flag(
            code="attack-not-converged",
            message=f"{names}: the budget ended before the attack did; a larger one "
            "may find more",
        )
    if rough_controls := [c.images for c in section.controls if not c.converged]:
        numbers = ", ".join(map(str, rough_controls))
        yield Flag(
            code="control-not-converged",
            message=f"the control with {numbers} labelled images was still learning: "
            "with more steps it would be better, and the stolen value smaller",
        )
    limit = floor + STRONG_CONTROL * (correct - floor)
    if strong := [c.images for c in section.controls if c.score > limit]:
        yield Flag(
            code="control-strong",
            message=f"with {', '.join(map(str, strong))} labelled images a model "
            "trained without the stolen weights already comes more than half of the "
            "way to the correct key: these images say little about a theft",
        )
    if any(f.stolen_value is None for f in section.findings):
        yield Flag(
            code="nothing-to-steal",
            message="some stolen values do not exist, because the control is within "
            f"{MIN_MARGIN} {score_name} of the correct key",
        )
