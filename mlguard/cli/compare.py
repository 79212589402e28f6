"""`mlguard audit compare`: several audits in one table, without key or torch."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlguard.audit.report import (
    compare,
    comparison_table,
    dump_comparison,
    read_audits,
    render_comparison,
)
from mlguard.cli.printable import say, say_json
from mlguard.files import refuse_existing, write_new


def compare_audits(
    reports: Annotated[
        list[Path],
        typer.Argument(help="Report folders of `mlguard audit`, or audit.json files."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.HTML", help="Write a page with charts to this new file."
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of the table.")
    ] = False,
) -> None:
    """Compare finished audits of several runs or methods.

    Audits of different images get separate tables. To audit a run folder named compare,
    write ./compare.
    """
    if out is not None:
        refuse_existing(out)
    comparison = compare(read_audits(reports))
    if out is not None:
        write_new(out, render_comparison(comparison).encode())
    if json:
        say_json(dump_comparison(comparison).decode())
        return
    Console().print(comparison_table(comparison))
    if out is not None:
        say(f"page: {out}")
