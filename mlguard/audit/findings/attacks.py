"""What attacks found: numbers, never a verdict. docs/spec/audit-v2.md, section 3.

Knows nothing of models or torch, so that a report can be read anywhere.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from mlguard.audit.findings.budgets import BudgetName
from mlguard.audit.findings.numbers import (
    STRICT,
    Count,
    Fraction,
    Interval,
    Positive,
    Ratio,
)

Rung = Literal["T0", "T1", "T2", "T3", "T4", "T5", "T6"]
Code = Annotated[str, Field(pattern="^[a-z][a-z-]*$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True)
class AttackFinding:
    """One attack's outcome on the audited split.

    Attributes:
        attack: Its name.
        variant: Which of its forms: an objective, or what was trained.
        rung: Of the ladder of adversaries.
        images: The adversary's images it used.
        labels: How many of them came with masks.
        queries: Predictions of one image that the attack asked of the model.
        seconds: How long it took; not among the findings that a seed repeats.
        score: What the attack's model gives on the audited split.
        score_interval: Its interval over images.
        leakage: How far `score` is from the floor to the reference.
        control: The score of the same images and steps without the stolen weights; the
            floor for an adversary without labels.
        stolen_value: (score − control) / (correct − control), at least 0; None where
            the control is as good as the correct key.
        stolen_value_interval: Its interval over images.
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
    seconds: Ratio = field(compare=False)
    score: Fraction
    score_interval: Interval
    leakage: Fraction | None
    control: Fraction
    stolen_value: Ratio | None
    stolen_value_interval: Interval | None
    converged: bool
    notes: tuple[Code, ...]


@dataclass(frozen=True, kw_only=True)
class ControlFinding:
    """What n labelled images give without the stolen weights.

    Attributes:
        images: How many labelled images.
        scratch: The score of the same architecture trained from random weights.
        ancestor: The same, from the public weights; None where there are none here.
        score: The better of the two.
        queries: Images that were trained on, all trainings together.
        converged: Whether training settled.
    """

    __pydantic_config__ = STRICT

    images: Positive
    scratch: Fraction
    ancestor: Fraction | None
    score: Fraction
    queries: Count
    converged: bool


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
    reason: Literal["not-asked", "impossible", "needs-weights", "sealed"]
    message: str


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
