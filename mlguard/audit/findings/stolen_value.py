"""Turn counts of attacks into findings: leakage, stolen value, intervals over images.

Every attack and every control sees the same redraws of the images as the rest of the
audit, so that their ratios are paired. docs/spec/audit-v4.md, section 7.
"""

from collections.abc import Sequence

import numpy as np

from mlguard.audit.findings.attacks import (
    AttackFinding,
    AttackSection,
    Campaign,
    Control,
    ControlFinding,
    Outcome,
)
from mlguard.audit.findings.bootstrap import (
    Yardstick,
    image_draws,
    interval_of,
    known,
    ratio,
)
from mlguard.audit.findings.conditions import Measured
from mlguard.audit.findings.numbers import Interval
from mlguard.tasks import Counts, Floats

MIN_MARGIN = 0.05  # of a score; below it, there is nothing to steal


def find_attacks(campaign: Campaign, measured: Measured, *, seed: int) -> AttackSection:
    """Turn the counts of attacks into findings.

    Args:
        campaign: The results of the attacks.
        measured: The counts of the rest of the audit, on the same images.
        seed: The seed of the redraws, the same as the audit's.
    """
    scale = Yardstick.of(measured, image_draws(len(measured.correct), seed=seed))
    values = _Values(scale, measured.correct, campaign.controls)
    found = [_finding(*outcome, scale, values) for outcome in campaign.outcomes]
    findings = tuple(finding for finding, _ in found)
    redrawn = [one for _, one in found]
    stolen = [-1.0 if f.stolen_value is None else f.stolen_value for f in findings]
    worst = int(np.argmax(stolen)) if stolen and max(stolen) >= 0 else None
    return AttackSection(
        budget=campaign.budget,
        split=campaign.source.split,
        pool_fingerprint=campaign.source.fingerprint,
        pool_images=campaign.source.images,
        findings=findings,
        controls=tuple(_control(one, scale) for one in campaign.controls),
        not_run=tuple(campaign.not_run),
        worst=worst,
        stolen_value=None if worst is None else findings[worst].stolen_value,
        stolen_value_interval=None if worst is None else _largest(redrawn),
    )


def stolen_value(attack: Floats, control: Floats, correct: Floats) -> Floats:
    """Return the worth of the theft: 0 for the control, 1 for the correct key.

    It is NaN if the control is within MIN_MARGIN of the correct key.

    Source: Zhang et al. 2024, arXiv:2310.07152, who judge a protection by what the same
        adversary gets where all weights are out of reach.
    """
    margin = correct - control
    value = ratio(attack - control, np.where(margin < MIN_MARGIN, 0.0, margin))
    return np.maximum(value, 0.0)  # NaN stays NaN


def stolen_value_of(attack: float, control: float, correct: float) -> float | None:
    """Return the stolen value of one score; None if there is nothing to steal."""
    return known(stolen_value(*map(np.asarray, (attack, control, correct))))


class _Values:
    """Stolen values, each against the control with as many labels."""

    def __init__(
        self, scale: Yardstick, correct: Counts, controls: Sequence[Control]
    ) -> None:
        self._scale = scale
        self._correct = scale.task.score_of(correct)
        self._controls = {one.images: _best(one, scale) for one in controls}
        self._redrawn_correct = scale.redrawn(correct)
        self._redrawn_controls = {
            one.images: np.max([scale.redrawn(part) for part in one.parts], axis=0)
            for one in controls
        }

    def control(self, labels: int) -> float:
        """Return the control; without labels, it is the best constant answer.

        The same is true with labels if no control was trained, as for a bundle.
        """
        return self._controls.get(labels, self._scale.floor)

    def value(self, outcome: Outcome) -> float | None:
        score = self._scale.task.score_of(outcome.counts)
        return stolen_value_of(score, self.control(outcome.labels), self._correct)

    def redrawn(self, labels: int, attack: Floats) -> Floats:
        """Return the stolen value of redrawn scores, in every replicate."""
        control = self._redrawn_controls.get(labels, self._scale.redrawn_floor)
        return stolen_value(attack, control, self._redrawn_correct)


def _finding(
    outcome: Outcome, seconds: float, scale: Yardstick, values: _Values
) -> tuple[AttackFinding, Floats]:
    """Return the finding of an attack, and its stolen value in every replicate."""
    score, drawn = scale.task.score_of(outcome.counts), scale.redrawn(outcome.counts)
    value, redrawn = values.value(outcome), values.redrawn(outcome.labels, drawn)
    finding = AttackFinding(
        attack=outcome.attack,
        variant=outcome.variant,
        rung=outcome.rung,
        images=outcome.images,
        labels=outcome.labels,
        queries=outcome.queries,
        seconds=round(seconds, 1),
        score=score,
        score_interval=interval_of(drawn),
        leakage=scale.leakage(score),
        control=values.control(outcome.labels),
        stolen_value=value,
        stolen_value_interval=None if value is None else _interval(redrawn),
        converged=outcome.converged,
        notes=outcome.notes,
    )
    return finding, redrawn


def _control(control: Control, scale: Yardstick) -> ControlFinding:
    ancestor, score = control.ancestor, scale.task.score_of
    return ControlFinding(
        images=control.images,
        scratch=score(control.scratch),
        ancestor=None if ancestor is None else score(ancestor),
        score=_best(control, scale),
        queries=control.queries,
        converged=control.converged,
    )


def _best(control: Control, scale: Yardstick) -> float:
    return max(scale.task.score_of(counts) for counts in control.parts)


def _largest(redrawn: Sequence[Floats]) -> Interval | None:
    """Return the interval of the largest value in each redraw."""
    table = np.stack([np.where(np.isnan(row), -1.0, row) for row in redrawn])
    largest = table.max(0)
    return _interval(np.where(largest < 0, np.nan, largest))


def _interval(values: Floats) -> Interval | None:
    """Return the interval; None if too few redraws have a value."""
    return None if np.isnan(values).mean() > 0.5 else interval_of(values)
