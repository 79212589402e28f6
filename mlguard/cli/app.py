"""`mlguard`: the table of commands, and the one place where refusals become words.

A command parses, calls and prints; it decides nothing. Answers go to standard output;
prompts, progress and refusals to standard error, as "mlguard: error: …" and
"mlguard: hint: …".
"""

import os
import sys
import traceback
from typing import Annotated

import typer

from mlguard import __version__
from mlguard.cli.audit import audit
from mlguard.cli.bind import bind, rebind
from mlguard.cli.compare import compare_audits
from mlguard.cli.doctor import doctor
from mlguard.cli.exit_codes import (
    INTERNAL_ERROR,
    INTERRUPTED,
    Refusal,
    exit_code_of,
    exit_codes,
)
from mlguard.cli.export import export
from mlguard.cli.identity import identity_app
from mlguard.cli.keys import keygen, keys_app
from mlguard.cli.layers import layers
from mlguard.cli.predict import predict
from mlguard.cli.printable import printable
from mlguard.cli.protect import protect
from mlguard.cli.recipes import recipes_app
from mlguard.cli.samples import samples
from mlguard.cli.show_transform import show_transform
from mlguard.cli.train import train
from mlguard.cli.two_words import TwoWords

TYPER_INTERRUPTED = 130  # how typer ends when Ctrl-C is pressed
DEBUG = "MLGUARD_DEBUG"  # set to 1 to see the traceback of an internal error

app = typer.Typer(
    name="mlguard",
    cls=TwoWords,
    help="Bind vision models to a secret key, ship them as ONNX bundles, audit them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(keygen)
app.add_typer(keys_app, name="keys")
app.add_typer(identity_app, name="identity")
app.add_typer(recipes_app, name="recipes")
app.command()(protect)
app.command()(train)
app.command()(bind)
app.command()(rebind)
app.command()(layers)
app.command()(export)
app.command()(predict)
app.command()(audit)
app.command("audit compare")(compare_audits)
app.command()(samples)
app.command("show-transform")(show_transform)
app.command()(doctor)
app.command("exit-codes")(exit_codes)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mlguard {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Bind vision models to a secret key, ship them as ONNX bundles, audit them."""


def main() -> None:
    """Run the command line and exit by the table of `mlguard exit-codes`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status. Nothing is raised."""
    try:
        app(arguments)
    except Refusal as refusal:
        _say(str(refusal), refusal.hint)
        return exit_code_of(refusal)
    except SystemExit as end:
        if end.code != TYPER_INTERRUPTED:
            return int(end.code or 0)
        _say("interrupted", "")
        return INTERRUPTED
    except Exception as error:
        return _internal(error)
    return 0


def _internal(error: Exception) -> int:
    """Report a bug by its place: a message or a local could hold a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    _say(
        f"internal error: {type(error).__name__} at {place}",
        f"this is a bug; {DEBUG}=1 shows where it comes from",
    )
    if os.environ.get(DEBUG) == "1":
        traceback.print_exception(error)
    return INTERNAL_ERROR


def _say(message: str, hint: str) -> None:
    print(f"mlguard: error: {printable(message)}", file=sys.stderr)
    if hint:
        print(f"mlguard: hint: {printable(hint)}", file=sys.stderr)


if __name__ == "__main__":
    main()
