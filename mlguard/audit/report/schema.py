"""The audit file `audit.json`: findings, and everything needed to get them again.

It holds no key, no path and no name of a machine or a person, so that it can be
handed to a buyer. The reader is strict: an unknown field, a missing one or another
type is refused, and so is a file of a newer schema. A file of an older schema is read
as what it is (older_schemas.py). Spec: docs/spec/audit-v3.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import Field, TypeAdapter, ValidationError

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
    contradiction,
)
from mlguard.audit.report.older_schemas import OLDER, upgraded
from mlguard.errors import ReportError
from mlguard.files import read_bounded
from mlguard.rules import MAX_CLASSES
from mlguard.validation import problems_of

SCHEMA: Final = "mlguard.audit/3"
SCHEMA_FAMILY = "mlguard.audit/"
MAX_REPORT_BYTES = 64 << 20  # 100 keys and 255 classes make well under 1 MiB


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """One audit.

    Attributes:
        schema: "mlguard.audit/3"; an older one only when an older file was read.
        created: UTC, to the second.
        subject: Which model.
        material: Which images.
        seed: Of the incorrect keys, the nearby keys, the attacks and the intervals.
        command: What to type to get the same findings; paths are placeholders.
        versions: Of the packages that computed the findings.
        machine: Where.
        flags: Reasons to read the findings with care.
        findings: The numbers of the first two rungs.
        attacks: The numbers of the rungs above; None where no attack was run.
        verdicts: One for each claim of the recipe.
    """

    __pydantic_config__ = STRICT

    schema: Literal["mlguard.audit/1", "mlguard.audit/2", "mlguard.audit/3"]
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


_ADAPTER = TypeAdapter(AuditReport)


def dump_report(report: AuditReport) -> bytes:
    """The content of audit.json: UTF-8, indented, fields in the spec's order."""
    return _ADAPTER.dump_json(report, indent=2) + b"\n"


def read_report(path: Path) -> AuditReport:
    """Read an audit.json.

    Raises:
        ReportError: There is no such file, it is not an audit, is damaged, or is of a
            newer schema.
    """
    return parse_report(report_content(path), name=str(path))


def report_content(path: Path) -> bytes:
    """The bytes of an audit.json, unread.

    Raises:
        ReportError: There is no such file, or it is too large to be an audit.
    """
    try:
        return read_bounded(path, MAX_REPORT_BYTES)
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from None


def parse_report(content: bytes, *, name: str) -> AuditReport:
    """Parse and check the content of an audit.json.

    Args:
        content: The whole file.
        name: What to call it in a refusal.

    Raises:
        ReportError: It is not an audit, is damaged, or is of a newer schema.
    """
    try:
        table = json.loads(content, parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{name} is not JSON: {error}") from None
    _check_schema(table, name)
    _check_text(table, name)
    if table["schema"] in OLDER:
        content = json.dumps(upgraded(table, name)).encode()
    try:
        # From the bytes, so that JSON arrays may stand for tuples and nothing else.
        report = _ADAPTER.validate_json(content)
    except ValidationError as error:
        raise ReportError(f"{name}: {'; '.join(problems_of(error))}") from None
    _check_lengths(report.findings, name)
    _check_ranges(report.findings, name)
    _check_access(report, name)
    _check_attacks(report.attacks, name)
    _check_verdicts(report.verdicts, name)
    return report


def json_schema() -> dict[str, Any]:
    """The published JSON Schema, docs/spec/audit-v3.schema.json."""
    schema = _ADAPTER.json_schema(mode="serialization")
    address = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": address, "$id": SCHEMA, **schema}


def _check_schema(table: Any, name: str) -> None:
    found = table.get("schema") if isinstance(table, dict) else None
    if found in (*OLDER, SCHEMA):
        return
    number = str(found).removeprefix(SCHEMA_FAMILY)
    if str(found).startswith(SCHEMA_FAMILY) and number.isdecimal():
        hint = "read it with the version of mlguard that wrote it, or a newer one"
        raise ReportError(
            f"{name} is of schema {found}, this version reads {SCHEMA}", hint=hint
        )
    raise ReportError(f"{name} is not an audit: its schema is not {SCHEMA}")


def _check_text(table: Any, name: str) -> None:
    """Refuse what could command a terminal; the reader's own sentences hold none."""
    waiting = [table]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and not value.isprintable():
            raise ReportError(f"{name}: a text holds control characters")


def _check_attacks(attacks: AttackSection | None, name: str) -> None:
    """What no audit finds, and no page can draw."""
    if attacks is None:
        return
    if attacks.worst is not None and attacks.worst >= len(attacks.findings):
        raise ReportError(f"{name}: attacks.worst names no finding")
    found = attacks.findings
    intervals = [
        *(finding.score_interval for finding in found),
        *(finding.stolen_value_interval for finding in found),
        attacks.stolen_value_interval,
    ]
    if any(i is not None and not i.low <= i.high for i in intervals):
        raise ReportError(f"{name}: an interval of an attack ends before it begins")


def _check_access(report: AuditReport, name: str) -> None:
    """Tries without the key are missing where the model is sealed, and only there."""
    found, sealed = report.findings, report.subject.access == "sealed"
    missing = found.no_key is None, found.incorrect is None, bool(found.not_run)
    if any(one is not sealed for one in missing) or (sealed and found.nearby):
        raise ReportError(
            f"{name}: no_key, incorrect and nearby do not fit a model whose access was "
            f"{report.subject.access}"
        )


def _check_verdicts(verdicts: tuple[Verdict, ...], name: str) -> None:
    """What the rules never answer: the exit code follows from these alone."""
    if len({verdict.claim for verdict in verdicts}) < len(verdicts):
        raise ReportError(f"{name}: a claim is answered twice")
    for verdict in verdicts:
        if why := contradiction(verdict):
            raise ReportError(
                f"{name}: the verdict on {verdict.claim} is {verdict.answer}, but {why}"
            )


def _check_lengths(findings: Findings, name: str) -> None:
    """Every per-class list must have one entry a class; a type cannot say that."""
    scores = [findings.correct, findings.no_key, findings.baseline]
    per_class = [score.class_scores for score in scores if score is not None]
    lists = [findings.class_counts, *per_class]
    if findings.incorrect is not None:
        lists.append(findings.incorrect.mean_class_scores)
    if any(len(entries) != len(findings.class_names) for entries in lists):
        classes = len(findings.class_names)
        raise ReportError(f"{name}: expected {classes} entries in every per-class list")


def _check_ranges(findings: Findings, name: str) -> None:
    """What no audit finds, and no page can draw."""
    most = MAX_CLASSES[findings.task]
    if not 1 <= len(findings.class_names) <= most:
        raise ReportError(f"{name}: expected 1 to {most} classes")
    if not any(findings.class_counts):
        raise ReportError(f"{name}: class_counts: nothing was scored")
    scores = [findings.correct, findings.no_key, findings.baseline]
    keys = findings.incorrect
    intervals = [
        *(score.score_interval for score in scores if score is not None),
        *(() if keys is None else (keys.mean_interval, keys.maximum_interval)),
        findings.leakage_interval,
    ]
    if any(i is not None and not i.low <= i.high <= 1 for i in intervals):
        raise ReportError(f"{name}: an interval is outside 0 … 1, or ends before it")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a field is given twice")
    return table
