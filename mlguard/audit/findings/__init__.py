"""What an audit found, in numbers, and what follows from them. No torch.

Counts become scores, intervals and stolen values here; flags and verdicts are decided
from them. Knows no key, no file and no page.
"""

from mlguard.audit.findings.attack_flags import attack_flags
from mlguard.audit.findings.attacks import (
    AttackFinding,
    AttackSection,
    Code,
    NotRun,
    Rung,
)
from mlguard.audit.findings.audited import AuditedModel, Machine, Material, Sha256
from mlguard.audit.findings.bootstrap import Measured, NearbyCounts, find
from mlguard.audit.findings.budgets import BUDGETS, Budget, BudgetName, share_of
from mlguard.audit.findings.flags import NEARBY_SHARE, Flag, access_flags, flags_of
from mlguard.audit.findings.numbers import (
    SEALED,
    STRICT,
    Access,
    Count,
    Findings,
    Fraction,
    IncorrectKeys,
    Interval,
    NearbyKeys,
    Positive,
    Ratio,
    Score,
)
from mlguard.audit.findings.outcomes import AdversaryImages, Campaign, Control, Outcome
from mlguard.audit.findings.stolen_value import find_attacks
from mlguard.audit.findings.verdicts import (
    Answer,
    Verdict,
    contradiction,
    decide,
    exit_code,
)

__all__ = [
    "BUDGETS",
    "NEARBY_SHARE",
    "SEALED",
    "STRICT",
    "Access",
    "AdversaryImages",
    "Answer",
    "AttackFinding",
    "AttackSection",
    "AuditedModel",
    "Budget",
    "BudgetName",
    "Campaign",
    "Code",
    "Control",
    "Count",
    "Findings",
    "Flag",
    "Fraction",
    "IncorrectKeys",
    "Interval",
    "Machine",
    "Material",
    "Measured",
    "NearbyCounts",
    "NearbyKeys",
    "NotRun",
    "Outcome",
    "Positive",
    "Ratio",
    "Rung",
    "Score",
    "Sha256",
    "Verdict",
    "access_flags",
    "attack_flags",
    "contradiction",
    "decide",
    "exit_code",
    "find",
    "find_attacks",
    "flags_of",
    "share_of",
]
