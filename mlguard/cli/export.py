"""`mlguard export`: write the bundle of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlguard.cli.answers import Json, answer
from mlguard.cli.extras import need
from mlguard.cli.key_space import warn_of_small_key_space
from mlguard.cli.model_key import open_model_key
from mlguard.cli.model_path import check_model_path
from mlguard.cli.onnx_model import (
    AboutFile,
    Example,
    FreezeInputs,
    export_onnx,
    facts_of,
    is_onnx,
    refuse_onnx_options,
)
from mlguard.cli.own_model import BuildName, build_of
from mlguard.cli.panels import ADVANCED, SPLIT
from mlguard.cli.precision import (
    DataFolder,
    Precision,
    cost_in_words,
    refuse_precision,
    rounding_of,
)
from mlguard.cli.pt2_model import export_program, is_program
from mlguard.cli.triton import (
    Instances,
    KeyAt,
    KeySource,
    ModelName,
    ModelVersion,
    Target,
    check_target,
    write_triton,
)
from mlguard.cli.unlock import Unlock, unlocking

if TYPE_CHECKING:  # they need torch
    from mlguard.protect import Run
    from mlguard.protect.export import ParityReport


@unlocking
def export(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run folder, an .onnx or a .pt2 file; for triton, a bundle."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The bundle to write, a new file NAME.mlgb; for triton, a repository."
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option(
            help="Name of the model key; default: for a run, the one that it names."
        ),
    ] = None,
    seal: Annotated[
        bool | None,
        typer.Option(
            "--seal/--no-seal",
            help="Encrypt the model under the key; default: the recipe's choice, "
            "normally to seal. Runtimes other than mlguard's need --no-seal.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        int,
        typer.Option(
            "--format",
            min=1,
            max=2,
            help="Format of the file. Without a seal it is 1, which other runtimes "
            "load.",
            rich_help_panel=ADVANCED,
        ),
    ] = 2,
    precision: Precision = "fp32",
    data: DataFolder = None,
    about: AboutFile = None,
    example: Example = None,
    freeze_inputs: FreezeInputs = False,
    build: BuildName = None,
    target: Target = "bundle",
    key_at: KeyAt = "server",
    key_source: KeySource = None,
    name: ModelName = None,
    instances: Instances = 1,
    backbone: Annotated[
        Path | None,
        typer.Option(
            help="Of a split model: where its public half goes, backbone.onnx beside "
            "OUT unless said otherwise; for triton, where it is.",
            show_default=False,
            rich_help_panel=SPLIT,
        ),
    ] = None,
    model_version: ModelVersion = 1,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Write RUN as a bundle, after comparing it with the model it came from.

    With `--target triton`, RUN is a bundle, and OUT becomes a model repository that
    holds it. This needs no key, and writes none.
    """
    if check_target(target, run, key_at=key_at):
        write_triton(
            run,
            out,
            name=name,
            key_source=key_source,
            key_at=key_at,
            instances=instances,
            version=model_version,
            backbone=backbone,
            as_json=json,
        )
        return
    if is_onnx(run) or is_program(run):
        refuse_precision(precision, data)
    if is_onnx(run):
        if seal is False:
            raise typer.BadParameter("an ONNX file without a seal is the plain model")
        export_onnx(
            run,
            out,
            key,
            about=about,
            example=example,
            freeze_inputs=freeze_inputs,
            unlock=unlock,
            as_json=json,
        )
        return
    if is_program(run):
        if seal is False:
            raise typer.BadParameter("a .pt2 file without a seal is the plain model")
        export_program(run, out, key, about=about, unlock=unlock, as_json=json)
        return
    refuse_onnx_options(about, example, freeze_inputs=freeze_inputs)
    check_model_path(run, (".onnx", ".pt2"))
    need("mlguard.protect.export")
    from mlguard.protect import read_run
    from mlguard.protect.export import check_exportable, export_run

    protected = read_run(run, build=build_of(build))
    protection = check_exportable(protected, out)
    key_name = key or protection.key_name
    sealed = protected.recipe.export.seal if seal is None else seal
    rounding = rounding_of(protected, precision, data)
    with open_model_key(key_name, unlock, key_id=protection.key_id) as held:
        wanted: Literal[1, 2] = 1 if form == 1 else 2
        report = export_run(
            protected,
            held.key,
            out,
            sealed=sealed,
            form=wanted,
            backbone=backbone,
            rounding=rounding,
        )
        held.register("bundle", protection.protection_id.hex())
    text, value = _told(protected, report, out, sealed=sealed)
    answer(value, text, as_json=json)


def _told(
    run: "Run", report: "ParityReport", out: Path, *, sealed: bool
) -> tuple[str, dict[str, Any]]:
    """What is said of a bundle, as text and as JSON; a small key space is warned of."""
    from mlguard.protect.key_work import key_space_of
    from mlguard.protect.run_folder import protection_of
    from mlguard.tasks import SCORE_NAMES

    key_id = protection_of(run).key_id
    how = "sealed" if sealed else "not sealed: the file holds the weights in the clear"
    if run.shown_by_weights and not sealed:
        spec = run.recipe.transform
        bits = key_space_of(run.recipe, run.build, shown=True)
        warn_of_small_key_space(spec, bits, shown=True)
    text = (
        f"{out}  {report.size_bytes / 1e6:.1f} MB  key {key_id}  {how}\n"
        f"parity: {report.agreement:.3%} of {report.unit} have the same class; logits "
        f"differ by at most {report.difference:.1e}, the largest logit is "
        f"{report.largest_logit:.1f}"
    )
    value = facts_of(out, key_id, report.size_bytes, sealed=sealed)
    if report.backbone is not None:
        size = report.backbone.stat().st_size / 1e6
        text += f"\n{report.backbone}  {size:.1f} MB  public: nothing of yours is in it"
        value |= {"backbone": str(report.backbone)}
    value |= {"agreement": report.agreement, "difference": report.difference}
    if (cost := report.rounded) is not None:
        score = SCORE_NAMES[run.recipe.data.task]
        text += "\n" + cost_in_words(cost, report.unit, score)
        value |= {"precision": cost.model_dump(mode="json")}
    return text, value
