"""`mlguard audit`: measure what users with and without the key get from a model.

Its other forms are in `audit_again.py` (--from) and `compare.py` (audit compare).
"""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mlguard.audit import report_folder, report_table, write_report
from mlguard.audit.findings import UNMEASURED, exit_code
from mlguard.audit.report import HTML, LOG, AuditReport, dump_report
from mlguard.cli.audit_again import render_again
from mlguard.cli.audit_options import AuditOptions
from mlguard.cli.audit_progress import audit_on_terminal, resumable
from mlguard.cli.checking_progress import count_on_terminal
from mlguard.cli.extras import need
from mlguard.cli.model_key import read_model_key
from mlguard.cli.model_path import check_model_path
from mlguard.cli.own_model import BuildName, build_of
from mlguard.cli.panels import ADVANCED
from mlguard.cli.printable import say, say_json
from mlguard.cli.recipes import Overrides
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.recipe import MAX_KEYS

if TYPE_CHECKING:
    from mlguard.cli.audit_task import AuditTask

BUNDLE = ".mlgb"
MAX_SEED = 2**31 - 1
MAX_EXAMPLES = 100  # limit of a page that a browser still opens


@unlocking
def audit(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the report, new or empty.")],
    run: Annotated[
        Path | None,
        typer.Argument(
            help="The run folder of `mlguard protect`, or a bundle, NAME.mlgb.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="AUDIT",
            help="Write the report of a finished audit again, from audit.json or "
            "audit.jsonl, without its pictures; needs no RUN and no images. With "
            "--key its proof is checked.",
            show_default=False,
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="For a bundle: a shipped recipe's name, or a file, whose [data] and "
            "[audit] apply. Default: the layout `folder` with the bundle's classes, "
            "or `imagefolder` if it classifies.",
            show_default=False,
        ),
    ] = None,
    set_: Overrides = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Name of the model key; default: the run's own. Required for a bundle."
        ),
    ] = None,
    incorrect_keys: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_KEYS,
            help="Number of random keys to try; default: the recipe's.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="train, validation or test, as in the recipe.",
            rich_help_panel=ADVANCED,
        ),
    ] = "test",
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_SEED,
            help="Seed of the keys tried; default: the recipe's.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Budget of the attacks: none, quick, standard or thorough; default: "
            "the recipe's."
        ),
    ] = None,
    attacks: Annotated[
        str | None,
        typer.Option(
            help="Names of attacks, separated by commas; default: the recipe's.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLAIM=NUMBER",
            help="A threshold instead of the recipe's or the default, such as "
            "stolen-value=0.3; can be repeated.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    ancestor: Annotated[
        Path | None,
        typer.Option(
            help="Public weights of the same architecture, .safetensors; default: the "
            "recipe's initial weights. Not for a bundle.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    build: BuildName = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume an audit that was stopped, or begin it."),
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=ADVANCED)
    ] = "auto",
    examples: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_EXAMPLES,
            help="Number of test images to show; 0 for none.",
            rich_help_panel=ADVANCED,
        ),
    ] = 4,
    json: Annotated[
        bool, typer.Option("--json", help="Print audit.json instead of the table.")
    ] = False,
    *,
    unlock: Unlock,
) -> None:
    """Measure what users with and without the key get, and write a report to OUT.

    RUN may be a bundle: onnxruntime runs it as a black box, attacks that need weights
        are skipped with that reason, and there is no plain twin to compare with.

    Every audit claims fidelity, little leakage, little stolen value and enough key
    bits. The exit status is 30 if a claim fails, 31 if one is inconclusive or the
    numbers are unproved. `mlguard audit compare A B` compares finished audits.
    """
    if source is not None:
        again, proved = render_again(ctx, source, out, key, unlock)
        _print_report(again, out, json=json, private=False, proved=proved)
        raise typer.Exit(exit_code(again.verdicts) if proved else UNMEASURED)
    if run is None:
        raise typer.BadParameter("give a run folder or a bundle, or --from AUDIT")
    options = AuditOptions(
        split=split,
        device=device,
        examples=examples,
        incorrect_keys=incorrect_keys,
        seed=seed,
        budget=budget,
        attacks=attacks,
        claims=tuple(claim or ()),
    )
    task = _open_task(
        run,
        data,
        options,
        key=key,
        recipe=recipe,
        overrides=set_ or [],
        ancestor=ancestor,
        build=build,
    )
    first = task.crew.first
    claimed = report_folder(out, resume=resume) if first else nullcontext(out)
    with claimed as folder, resumable(out / LOG):
        model_key = read_model_key(key or task.key_name, unlock, key_id=task.key_id)
        with count_on_terminal("checking images") as count:
            task.check_images(count)
        with audit_on_terminal() as watch:
            found, secret = task.run(model_key, watch, log=out / LOG, resume=resume)
        status = exit_code(found.report.verdicts)
        if first:
            write_report(folder, found.report, found.gallery, secret=secret)
    if first:
        _print_report(found.report, out, json=json, private=examples > 0, proved=True)
    raise typer.Exit(status)


def _open_task(
    path: Path,
    data: Path | None,
    options: AuditOptions,
    *,
    key: str | None,
    recipe: str | None,
    overrides: list[str],
    ancestor: Path | None,
    build: str | None,
) -> "AuditTask":
    """Read a run folder or a bundle, and refuse options of the other."""
    if not is_bundle(path):
        _refuse_strays("a run folder, which has its own", recipe=recipe, set=overrides)
        check_model_path(path)
        need("mlguard.cli.run_audit_task")
        from mlguard.cli.run_audit_task import open_run

        made = build_of(build)
        return open_run(path, data, options, ancestor=ancestor, build=made)
    _refuse_strays("a bundle", ancestor=ancestor, build=build)
    if key is None:
        raise typer.BadParameter("a bundle does not name its key: give --key NAME")
    if overrides and recipe is None:
        raise typer.BadParameter(
            "--set changes a recipe, and a bundle has none: name one with --recipe, "
            "whose [data] and [audit] then apply, or use options that need none: "
            "--incorrect-keys, --seed, --budget, --attacks, --claim"
        )
    need("mlguard.cli.bundle_audit_task")
    from mlguard.cli.bundle_audit_task import open_bundle

    return open_bundle(
        path, data, options, key_name=key, recipe_name=recipe, overrides=overrides
    )


def is_bundle(path: Path) -> bool:
    """Whether a path names a bundle: a file, or a missing one by its suffix."""
    return path.is_file() or (path.suffix == BUNDLE and not path.is_dir())


def _refuse_strays(what: str, **options: object) -> None:
    """Refuse options that do not apply to the target."""
    for name, value in options.items():
        if value:
            raise typer.BadParameter(f"--{name} cannot be combined with {what}")


def _print_report(
    report: AuditReport, out: Path, *, json: bool, private: bool, proved: bool
) -> None:
    if json:
        say_json(dump_report(report).decode())
    else:
        Console().print(report_table(report, proved=proved))
        if private:
            say(
                "the page shows answers under the correct key: keep it as private as "
                "the model, or leave the answers out with --examples 0"
            )
        say(f"report: {out / HTML}")
