"""What a round of attacks gave, as counts: what findings are made of. No torch.

Codes and words are those of docs/spec/audit-v2.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlguard.audit.findings.attacks import NotRun, Rung
from mlguard.audit.findings.budgets import BudgetName
from mlguard.tasks import Counts


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one attack gave: counts on the audited split, and what they cost.

    Attributes:
        attack: Its name in ATTACKS.
        variant: Which of its forms.
        rung: Of the ladder of adversaries.
        images: The adversary's images it used.
        labels: How many of them came with masks.
        queries: Predictions of one image that it asked of the model; a step of
            training counts each of its images once.
        counts: On the audited split.
        converged: Whether more of the same would have changed little.
        notes: Codes of docs/spec/audit-v2.md, section 4.
    """

    attack: str
    variant: str
    rung: Rung
    images: int
    labels: int
    queries: int
    counts: Counts
    converged: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Control:
    """What n labelled images give without the stolen weights.

    Attributes:
        images: How many labelled images.
        scratch: Counts of the best model trained from random weights.
        ancestor: The same, fine-tuned from the public weights that the recipe starts
            from; None where there are none, or they are not on this machine.
        queries: Images that were trained on, all trainings together.
        converged: Whether every training that was kept settled.
    """

    images: int
    scratch: Counts
    ancestor: Counts | None
    queries: int
    converged: bool

    @property
    def parts(self) -> list[Counts]:
        """Everything the control had; the best of it counts."""
        parts = (self.scratch, self.ancestor)
        return [counts for counts in parts if counts is not None]


@dataclass(frozen=True)
class AdversaryImages:
    """Where an adversary's images come from.

    Attributes:
        split: What the split is called.
        fingerprint: Of its files.
        number: How many the adversary has.
    """

    split: str
    fingerprint: str
    number: int


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
