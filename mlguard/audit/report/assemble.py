"""Write the report of an audit from its log alone, without key, model or images."""

from dataclasses import dataclass

from mlguard.audit.findings import (
    AttackSection,
    Findings,
    Flag,
    Measured,
    Verdict,
    decide,
    find,
    flags_of,
)
from mlguard.audit.log import AuditLog, attacks_of, measured_of
from mlguard.audit.report.audit_report import SCHEMA, AuditReport
from mlguard.errors import ReportError


@dataclass(frozen=True)
class Conclusion:
    """Everything that follows from the measurements."""

    measured: Measured
    findings: Findings
    attacks: AttackSection | None
    flags: tuple[Flag, ...]
    verdicts: tuple[Verdict, ...]


def conclude(log: AuditLog) -> Conclusion:
    """Compute findings, flags and verdicts.

    Raises:
        ReportError: Some images were not counted, or the attacks did not finish.
    """
    started = log.started
    measured = measured_of(log)
    findings = find(
        measured,
        class_names=started.class_names,
        key_space_bits=started.key_space_bits,
        seed=started.settings.seed,
    )
    attacks = attacks_of(log, measured)
    sealed_files = started.subject.sealed_files
    flags = flags_of(
        findings,
        attacks,
        access=started.subject.access,
        sealed_files=sealed_files,
        in_halves=started.subject.in_halves,
        old_proof=started.old_proof,
        trained_on_these=started.trained_on_these,
        shown_by_weights=started.shown_by_weights,
    )
    codes = [flag.code for flag in flags]
    verdicts = decide(
        started.limits, findings, attacks, codes, sealed_files=sealed_files
    )
    return Conclusion(measured, findings, attacks, flags, verdicts)


def report_of(log: AuditLog, conclusion: Conclusion | None = None) -> AuditReport:
    """Return the report of a finished audit.

    Args:
        log: Its log of events.
        conclusion: Its conclusion, if already known.

    Raises:
        ReportError: The audit is not finished.
    """
    if log.ended is None:
        raise ReportError(
            f"{log.name}: the audit is not finished",
            hint="resume it with the same command and --resume",
        )
    found, started = conclusion or conclude(log), log.started
    return AuditReport(
        schema=SCHEMA,
        created=log.ended.created,
        subject=started.subject,
        material=started.material,
        seed=started.settings.seed,
        command=started.command,
        versions=started.versions,
        machine=started.machine,
        flags=found.flags,
        findings=found.findings,
        attacks=found.attacks,
        verdicts=found.verdicts,
    )
