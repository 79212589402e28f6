"""The audit file `audit.json`: findings, and everything needed to reproduce them.

It holds no key, no path and no name of a machine or a person, so that it can be given
to a buyer. The reader is strict: an unknown field, a missing one or another type is
refused, and so is a file of another schema. Numbers that follow from others in the file
are recomputed, and must match (doubts.py). proofs.py proves that the numbers are those
measured. The specification is docs/spec/audit-v4.md.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from mlguard.audit.report.audit_report import SCHEMA, AuditReport
from mlguard.audit.report.doubts import doubts
from mlguard.errors import ReportError
from mlguard.files import read_bounded
from mlguard.validation import problems_of, refuse_crowded

SCHEMA_FAMILY = "mlguard.audit/"
MAX_REPORT_BYTES = 64 << 20  # 100 keys and 255 classes make well under 1 MiB
MAX_OBJECTS, MAX_ITEMS = 200_000, 2_000_000  # many keys have many numbers


_ADAPTER = TypeAdapter(AuditReport)


def dump_report(report: AuditReport) -> bytes:
    """Return the content of audit.json: UTF-8, indented, fields in the spec's order."""
    return _ADAPTER.dump_json(report, indent=2) + b"\n"


def read_report(path: Path) -> AuditReport:
    """Read an audit.json.

    Raises:
        ReportError: The file is missing, not an audit, damaged, or of another schema.
    """
    return parse_report(report_content(path), name=str(path))


def report_content(path: Path) -> bytes:
    """Return the bytes of an audit.json, without parsing them.

    Raises:
        ReportError: The file is missing, or too large to be an audit.
    """
    try:
        return read_bounded(path, MAX_REPORT_BYTES)
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from None


def parse_report(content: bytes, *, name: str) -> AuditReport:
    """Parse and check the content of an audit.json.

    Args:
        content: The whole file.
        name: Its name in a refusal.

    Raises:
        ReportError: It is not an audit, is damaged, or is of another
            schema.
    """
    try:
        table = json.loads(content, parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{name} is not JSON: {error}") from None
    _check_schema(table, name)
    _check_text(table, name)
    try:
        # From the bytes, so that JSON arrays can represent tuples and nothing else.
        refuse_crowded(content, objects=MAX_OBJECTS, items=MAX_ITEMS)
        report = _ADAPTER.validate_json(content)
    except ValidationError as error:
        raise ReportError(f"{name}: {'; '.join(problems_of(error))}") from None
    except ValueError as problem:
        raise ReportError(f"{name} {problem}") from None
    if why := doubts(report):
        raise ReportError(f"{name}: {why}")
    return report


def json_schema() -> dict[str, Any]:
    """Return the published JSON Schema, docs/spec/audit-v4.schema.json."""
    schema = _ADAPTER.json_schema(mode="serialization")
    address = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": address, "$id": SCHEMA, **schema}


def _check_schema(table: Any, name: str) -> None:
    found = table.get("schema") if isinstance(table, dict) else None
    if found == SCHEMA:
        return
    number = str(found).removeprefix(SCHEMA_FAMILY)
    if str(found).startswith(SCHEMA_FAMILY) and number.isdecimal():
        older = int(number) < int(SCHEMA.removeprefix(SCHEMA_FAMILY))
        raise ReportError(
            f"{name} is of schema {found}, but this version reads {SCHEMA}",
            hint="audit the model again, or read it with the version of mlguard that "
            "wrote it"
            if older
            else "read it with the version of mlguard that wrote it, or a newer one",
        )
    raise ReportError(f"{name} is not an audit: its schema is not {SCHEMA}")


def _check_text(table: Any, name: str) -> None:
    """Refuse control characters; the reader's own sentences have none."""
    waiting = [table]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and not value.isprintable():
            raise ReportError(f"{name}: a text contains control characters")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a field appears twice")
    return table
