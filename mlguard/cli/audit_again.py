"""`mlguard audit --from`: write a finished audit's report again, from its numbers.

It needs no images and no torch; with the key it checks that the numbers were written
with it.
"""

from dataclasses import dataclass, field
from pathlib import Path

import typer

from mlguard.audit.findings import AuditedModel
from mlguard.audit.log import PROOF_USE, USE, read_log
from mlguard.audit.report import (
    JSON,
    LOG,
    AuditReport,
    check_proof,
    dump_report,
    parse_report,
    report_content,
    report_folder,
    report_of,
    write_report,
)
from mlguard.cli.model_key import read_model_key
from mlguard.cli.unlock import Unlock
from mlguard.keys import ModelSubkeys

# Options that are allowed with --from, including those that open a keystore.
FITTING = {"source", "out", "json", "key", *Unlock.__dataclass_fields__}


@dataclass(frozen=True)
class _Source:
    """A finished audit: its numbers, and the key that proves them."""

    content: bytes
    report: AuditReport
    secret: bytes | None = field(repr=False)


def render_again(
    ctx: typer.Context, source: Path, out: Path, key: str | None, unlock: Unlock
) -> tuple[AuditReport, bool]:
    """Write the report of an audit.json, or of an audit.jsonl, into a new folder.

    Args:
        ctx: The context of the command.
        source: The file, or the folder that holds one; audit.json comes first.
        out: The new folder.
        key: Name of the key that proves it; None to read it as unproved.
        unlock: The keystore, and how to open it.

    Returns:
        The report, and whether it is proved.

    Raises:
        BadParameter: An option was given that applies only to a new audit.
        ReportError: It is not an audit, is damaged, has another schema, or was changed
            after it was written with the key.
        OutputExists: `out` is not empty.
    """
    stray = [name for name in ctx.params if _typed(ctx, name) and name not in FITTING]
    if stray:
        raise typer.BadParameter(
            "--from writes the report of a finished audit again: only --out, --json "
            f"and --key are allowed with it, got {', '.join(sorted(stray))} too"
        )
    file = _file_of(source)
    read = _read_log if file.suffix == Path(LOG).suffix else _read_json
    found = read(file, key, unlock)
    with report_folder(out) as folder:
        write_report(
            folder, found.report, None, secret=found.secret, content=found.content
        )
    return found.report, found.secret is not None


def _file_of(source: Path) -> Path:
    if not source.is_dir():
        return source
    return next(
        (path for path in (source / JSON, source / LOG) if path.exists()),
        source / JSON,
    )


def _read_json(file: Path, key: str | None, unlock: Unlock) -> _Source:
    content = report_content(file)
    report, secret = parse_report(content, name=str(file)), None
    if key is not None:
        secret = _subkeys(key, unlock, report.subject).derive(PROOF_USE)
        check_proof(file.parent, file.name, content, secret)
    return _Source(content, report, secret)


def _read_log(file: Path, key: str | None, unlock: Unlock) -> _Source:
    subkeys = None
    if key is not None:
        subkeys = _subkeys(key, unlock, read_log(file).started.subject)
    log = read_log(file, None if subkeys is None else subkeys.derive(USE))
    content = dump_report(report_of(log))
    # Read back, so that the checks of an untrusted audit.json apply to a log too.
    report = parse_report(content, name=str(file))
    secret = None if subkeys is None else subkeys.derive(PROOF_USE)
    return _Source(content, report, secret)


def _subkeys(name: str, unlock: Unlock, subject: AuditedModel) -> ModelSubkeys:
    key = read_model_key(name, unlock, key_id=subject.key_id)
    return key.for_model(bytes.fromhex(subject.protection_id))


def _typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
