"""`mlguard`: the table of commands, and the one place where refusals become words.

A command only parses, calls and prints. Answers go to standard output; prompts,
progress and refusals to standard error, as "mlguard: error: …" and "mlguard: hint: …".
"""

import os
import sys
import traceback
from typing import Annotated

import typer

from mlguard import __version__
from mlguard.cli.commands import CommandTable
from mlguard.cli.printable import be_quiet, refuse, say
from mlguard.cli.process import set_up, use_threads
from mlguard.cli.streams import lasting_streams, lost

OK, INTERNAL_ERROR, INTERRUPTED, NO_SPACE = 0, 1, 3, 41  # rows of exit_codes.py
TYPER_INTERRUPTED = 130  # typer's exit status when Ctrl-C is pressed
DEBUG = "MLGUARD_DEBUG"  # set to 1 to see the traceback of an internal error

app = typer.Typer(
    name="mlguard",
    cls=CommandTable,
    help="Bind vision models to a secret key, ship them as ONNX bundles, audit them.",
    epilog="Begin with `mlguard keygen acme`, then `mlguard export model.onnx --key "
    "acme --out acme.mlgb`. `mlguard COMMAND --help` has options and examples.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"mlguard {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Threads of torch; default: the cores, or a container's share.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="No remarks, warnings and progress; MLGUARD_QUIET=1."
        ),
    ] = False,
) -> None:
    """Bind vision models to a secret key, ship them as ONNX bundles, audit them."""
    if quiet:
        be_quiet()
    if threads is not None:
        use_threads(threads)


def main() -> None:
    """Run the command line and exit by the table of `mlguard exit-codes`."""
    set_up()
    with lasting_streams() as output:
        status = run(sys.argv[1:])
        if output is not None:
            output.flush()
        if reason := lost(output):
            _say(
                f"the answer was not written completely: standard output: {reason}",
                "the command has done its work; run it again to see the answer",
            )
            status = status or NO_SPACE
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status. Nothing is raised."""
    try:
        app(arguments, prog_name="mlguard")
    except SystemExit as end:
        if end.code != TYPER_INTERRUPTED:
            return int(end.code or OK)
        _say("interrupted", "")
        return INTERRUPTED
    except Exception as error:
        return _refused(error)
    return OK


def _refused(error: Exception) -> int:
    from mlguard.cli.exit_codes import Refusal, exit_code_of  # usually not needed

    if not isinstance(error, Refusal):
        return _internal(error)
    _say(str(error), error.hint)
    return exit_code_of(error)


def _internal(error: Exception) -> int:
    """Report a bug by its place only: a message or a local could hold a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    _say(
        f"internal error: {type(error).__name__} at {place}",
        f"this is a bug; set {DEBUG}=1 to see where it comes from",
    )
    if os.environ.get(DEBUG) == "1":
        traceback.print_exception(error)
    return INTERNAL_ERROR


def _say(message: str, hint: str) -> None:
    refuse(f"mlguard: error: {message}")
    if hint:
        refuse(f"mlguard: hint: {hint}")


if __name__ == "__main__":
    main()
