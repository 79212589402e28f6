"""`mlguard audit compare`: several audits in one table. Needs no key and no torch."""

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
        typer.Option(metavar="PAGE.HTML", help="Write a page with charts; new."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of the table.")
    ] = False,
) -> None:
    """Set finished audits of several runs or methods beside each other.

    Audits of different images are in tables of their own. To audit a run folder whose
    name is compare, write ./compare.
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
