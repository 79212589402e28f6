"""Audit a run or a bundle, from a model, a key and images to a report. Needs torch."""

from mlguard.audit.run.auditing import Audit, Watch, audit
from mlguard.audit.run.plan import Adversary, AuditPlan

__all__ = [
    "Adversary",
    "Audit",
    "AuditPlan",
    "Watch",
    "audit",
]
