"""The results of attacks: counts first, then findings. Numbers, never a verdict.

The module knows nothing of models and needs no torch, so that a report can be read
anywhere. The fields are those of docs/spec/audit-v4.md, section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from mlguard.audit.findings.audited import Sha256
from mlguard.audit.findings.budgets import BudgetName
from mlguard.audit.findings.numbers import (
    STRICT,
    Count,
    Fraction,
    Interval,
    Positive,
    Ratio,
)
from mlguard.tasks import Counts

Rung = Literal["T0", "T1", "T2", "T3", "T4", "T5", "T6"]
Code = Annotated[str, Field(pattern="^[a-z][a-z-]*$")]
Reason = Literal["not-asked", "impossible", "needs-weights", "sealed"]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of an attack, and its cost.

    Attributes:
        attack: The name of the attack.
        variant: Its form: an objective, or what was trained.
        rung: The rung of the ladder of adversaries.
        images: How many of the adversary's images it used.
        labels: How many of them came with masks.
        queries: How many predictions of one image it made; a step of training counts
            each of its images once.
        converged: Whether a larger budget would have changed little.
        notes: Codes of notes about the number.
    """

    __pydantic_config__ = STRICT

    attack: Code
    variant: str
    rung: Rung
    images: Count
    labels: Count
    queries: Count
    converged: bool
    notes: tuple[Code, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome(Attempt):
    """The result of an attack, as counts on the audited split."""

    counts: Counts


@dataclass(frozen=True, kw_only=True)
class AttackFinding(Attempt):
    """The result of an attack, as numbers.

    Attributes:
        seconds: How long it took; a seed does not reproduce this.
        score: The score of the attack's model on the audited split.
        score_interval: Its interval over images.
        leakage: How far `score` is from the floor to the reference.
        control: The score of the same images and steps without the stolen weights; the
            floor for an adversary without labels.
        stolen_value: (score − control) / (correct − control), at least 0; None where
            the control is as good as the correct key.
        stolen_value_interval: Its interval over images.
    """

    seconds: Ratio = field(compare=False)
    score: Fraction
    score_interval: Interval
    leakage: Fraction | None
    control: Fraction
    stolen_value: Ratio | None
    stolen_value_interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A control: a model trained on n labelled images without the stolen weights.

    Attributes:
        images: How many labelled images.
        queries: How many images were trained on, in all trainings together.
        converged: Whether every training that was kept has settled.
    """

    __pydantic_config__ = STRICT

    images: Positive
    queries: Count
    converged: bool


@dataclass(frozen=True, kw_only=True)
class Control(Trained):
    """The result of a control, as counts on the audited split.

    Attributes:
        scratch: The counts of the best model trained from random weights.
        ancestor: The same, fine-tuned from the public weights; None if there are none
            on this machine.
    """

    scratch: Counts
    ancestor: Counts | None

    @property
    def parts(self) -> list[Counts]:
        """The results of the control; the best one counts."""
        parts = (self.scratch, self.ancestor)
        return [counts for counts in parts if counts is not None]


@dataclass(frozen=True, kw_only=True)
class ControlFinding(Trained):
    """The result of a control, as numbers.

    Attributes:
        scratch: The score of the same architecture trained from random weights.
        ancestor: The same, from the public weights; None if there are none here.
        score: The better of the two.
    """

    scratch: Fraction
    ancestor: Fraction | None
    score: Fraction


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """An attack, a part of one, or a control that did not run, and why.

    Attributes:
        attack: The name of the attack.
        reason: A code. "impossible": nobody can run it on this model; "needs-weights":
            somebody with the weights could; "sealed": nobody can without the key.
        message: The reason in words.
    """

    __pydantic_config__ = STRICT

    attack: Code
    reason: Reason
    message: str


@dataclass(frozen=True, kw_only=True)
class AdversaryImages:
    """The images that attacks use.

    Attributes:
        split: The name of the split.
        fingerprint: The fingerprint of its files.
        images: How many of them at most.
        ancestor: SHA-256 of the public weights given to the adversary; None if there
            are only the recipe's initial weights.
        weights: SHA-256 of the recipe's initial weights, if they are a file on this
            machine and no others were given.
    """

    __pydantic_config__ = STRICT

    split: str
    fingerprint: Sha256
    images: Positive
    ancestor: Sha256 | None = None
    weights: Sha256 | None = None


@dataclass(frozen=True)
class Campaign:
    """All results of a round of attacks.

    Attributes:
        budget: The budget of each attack.
        outcomes: The outcomes, each with the seconds it took.
        controls: The controls, by number of labelled images.
        not_run: What was left out, and why.
        source: The source of the images.
    """

    budget: BudgetName
    outcomes: Sequence[tuple[Outcome, float]]
    controls: Sequence[Control]
    not_run: Sequence[NotRun]
    source: AdversaryImages


@dataclass(frozen=True, kw_only=True)
class AttackSection:
    """All attacks of an audit.

    Attributes:
        budget: The budget of each attack.
        split: The split of the adversary's images.
        pool_fingerprint: SHA-256 over the ids and contents of that split's files.
        pool_images: How many images the adversary has, at most.
        findings: The findings, in the order of the attacks.
        controls: The controls, by number of images.
        not_run: What was left out.
        worst: Index in `findings` of the largest stolen value; None if no attack has
            one.
        stolen_value: That value, the headline.
        stolen_value_interval: Interval over images of the largest of all attacks.
    """

    __pydantic_config__ = STRICT

    budget: BudgetName
    split: str
    pool_fingerprint: Sha256
    pool_images: Positive
    findings: tuple[AttackFinding, ...]
    controls: tuple[ControlFinding, ...]
    not_run: tuple[NotRun, ...]
    worst: Count | None
    stolen_value: Ratio | None
    stolen_value_interval: Interval | None

    @property
    def worst_finding(self) -> AttackFinding | None:
        """The attack with the largest stolen value."""
        return None if self.worst is None else self.findings[self.worst]
