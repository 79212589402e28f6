"""`mlguard audit --from`: a finished audit's report, made again from its numbers.

Needs no key, no images and no torch.
"""

from pathlib import Path

import typer

from mlguard.audit import report_folder, write_report
from mlguard.audit.report import JSON, AuditReport, parse_report, report_content

FITTING = {"source", "out", "json"}  # options that mean something beside --from


def render_again(ctx: typer.Context, source: Path, out: Path) -> AuditReport:
    """Write the report of an audit.json into a new folder.

    Args:
        ctx: What was typed.
        source: An audit.json, or the folder that holds one.
        out: The new folder.

    Raises:
        BadParameter: An option was given that only a new audit can follow.
        ReportError: It is no audit, is damaged, or is of a newer schema.
        OutputExists: `out` holds something.
    """
    stray = [name for name in ctx.params if _typed(ctx, name) and name not in FITTING]
    if stray:
        raise typer.BadParameter(
            "--from makes the report of a finished audit again: it goes with --out and "
            f"--json alone, got {', '.join(sorted(stray))} too"
        )
    file = source / JSON if source.is_dir() else source
    content = report_content(file)
    report = parse_report(content, name=str(file))
    with report_folder(out) as folder:
        write_report(folder, report, None, content=content)
    return report


def _typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
