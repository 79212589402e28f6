"""Audit a run or a bundle, from a model, a key and images to a report. Needs torch."""

from mlguard.audit.run.audit import (
    Adversary,
    AttackProgress,
    Audit,
    audit_run,
    audit_target,
)

__all__ = [
    "Adversary",
    "AttackProgress",
    "Audit",
    "audit_run",
    "audit_target",
]
