"""What attacks gave: counts first, then findings. Numbers, never a verdict. No torch.

Knows nothing of models, so that a report can be read anywhere. Fields are those of
docs/spec/audit-v4.md, section 7.
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
    """What one attack tried, and what that cost.

    Attributes:
        attack: Its name.
        variant: Which of its forms: an objective, or what was trained.
        rung: Of the ladder of adversaries.
        images: The adversary's images it used.
        labels: How many of them came with masks.
        queries: Predictions of one image that it asked of the model; a step of
            training counts each of its images once.
        converged: Whether more of the same would have changed little.
        notes: Codes that say what to know about the number.
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
    """What an attack gave, as counts on the audited split."""

    counts: Counts


@dataclass(frozen=True, kw_only=True)
class AttackFinding(Attempt):
    """What an attack gave, as numbers.

    Attributes:
        seconds: How long it took; not among the findings that a seed repeats.
        score: What the attack's model gives on the audited split.
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
        queries: Images that were trained on, all trainings together.
        converged: Whether every training that was kept settled.
    """

    __pydantic_config__ = STRICT

    images: Positive
    queries: Count
    converged: bool


@dataclass(frozen=True, kw_only=True)
class Control(Trained):
    """What a control gives, as counts on the audited split.

    Attributes:
        scratch: Of the best model trained from random weights.
        ancestor: The same, fine-tuned from the public weights; None where there are
            none, or they are not on this machine.
    """

    scratch: Counts
    ancestor: Counts | None

    @property
    def parts(self) -> list[Counts]:
        """Everything the control had; the best of it counts."""
        parts = (self.scratch, self.ancestor)
        return [counts for counts in parts if counts is not None]


@dataclass(frozen=True, kw_only=True)
class ControlFinding(Trained):
    """What a control gives, as numbers.

    Attributes:
        scratch: The score of the same architecture trained from random weights.
        ancestor: The same, from the public weights; None where there are none here.
        score: The better of the two.
    """

    scratch: Fraction
    ancestor: Fraction | None
    score: Fraction


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """An attack, a part of one, or a control that did not run, and why.

    Attributes:
        attack: Its name.
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
    """Whose images attacks use.

    Attributes:
        split: What the split is called.
        fingerprint: Of its files.
        images: How many of them at most.
        ancestor: SHA-256 of the public weights that the adversary was given; None
            where there are only those that the recipe starts from.
        weights: SHA-256 of those that the recipe starts from, where they are a file on
            this machine and no others were given.
    """

    __pydantic_config__ = STRICT

    split: str
    fingerprint: Sha256
    images: Positive
    ancestor: Sha256 | None = None
    weights: Sha256 | None = None


@dataclass(frozen=True)
class Campaign:
    """Everything a round of attacks gave.

    Attributes:
        budget: What each could spend.
        outcomes: Each with the seconds it took.
        controls: By number of labelled images.
        not_run: What was left out, and why.
        source: Where the images come from.
    """

    budget: BudgetName
    outcomes: Sequence[tuple[Outcome, float]]
    controls: Sequence[Control]
    not_run: Sequence[NotRun]
    source: AdversaryImages


@dataclass(frozen=True, kw_only=True)
class AttackSection:
    """Every attack of an audit.

    Attributes:
        budget: What each of them could spend.
        split: Where the adversary's images come from.
        pool_fingerprint: SHA-256 over the ids and contents of that split's files.
        pool_images: How many images the adversary has, at most.
        findings: In the order they were run.
        controls: By number of images.
        not_run: What was left out.
        worst: Index in `findings` of the largest stolen value; None where no attack
            has one.
        stolen_value: That value: the headline.
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
