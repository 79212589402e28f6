"""One audit as a value, the content of audit.json. docs/spec/audit-v4.md, section 9."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from mlguard.audit.findings import (
    STRICT,
    AttackSection,
    AuditedModel,
    Count,
    Findings,
    Flag,
    Machine,
    Material,
    Verdict,
)

SCHEMA: Final = "mlguard.audit/4"


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """One audit.

    Attributes:
        schema: "mlguard.audit/4".
        created: UTC, to the second.
        subject: The audited model.
        material: The audited images.
        seed: The seed of incorrect keys, nearby keys, attacks and intervals.
        command: The command for the same findings; paths are placeholders.
        versions: The versions of the packages that computed the findings.
        machine: The machine.
        flags: Reasons to read the findings with care.
        findings: The numbers of the first two rungs.
        attacks: The numbers of the rungs above; None if no attack was run.
        verdicts: One for each claim.
    """

    __pydantic_config__ = STRICT

    schema: Literal["mlguard.audit/4"]
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    subject: AuditedModel
    material: Material
    seed: Count
    command: str
    versions: dict[str, str]
    machine: Machine
    flags: tuple[Flag, ...]
    findings: Findings
    attacks: AttackSection | None
    verdicts: tuple[Verdict, ...]
