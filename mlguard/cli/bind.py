"""`mlguard bind` and `mlguard rebind`: a key for a trained model, without training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlguard.cli.bind_weights import bind_weights, is_weights
from mlguard.cli.extras import need
from mlguard.cli.key_space import warn_of_small_key_space
from mlguard.cli.model_key import open_model_key, open_model_keys
from mlguard.cli.model_path import check_model_path
from mlguard.cli.onnx_model import (
    AboutFile,
    Example,
    FreezeInputs,
    export_onnx,
    is_onnx,
    refuse_onnx_options,
)
from mlguard.cli.own_model import BuildName, build_of
from mlguard.cli.panels import ADVANCED
from mlguard.cli.printable import say, warn
from mlguard.cli.pt2_model import export_program, is_program
from mlguard.cli.recipes import Overrides
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.files import refuse_filled_folder
from mlguard.recipe import read_recipe

if TYPE_CHECKING:
    from mlguard.protect import Bound

NewKey = Annotated[str, typer.Option(help="Name of the model key in the keystore.")]
KeepPlain = Annotated[
    bool,
    typer.Option(
        "--keep-plain",
        help="With the method weights: leave the run folder in the clear.",
        rich_help_panel=ADVANCED,
    ),
]
NewRun = Annotated[Path, typer.Option(help="The run folder to write, new or empty.")]


@unlocking
def bind(
    model: Annotated[
        Path,
        typer.Argument(help="A plain run folder, a .safetensors, .onnx or .pt2 file."),
    ],
    key: NewKey,
    out: NewRun,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe of a .safetensors file.")
    ] = None,
    set_: Overrides = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="shf, np, orthogonal, channels, weights, or a list of them; default: "
            "the recipe's."
        ),
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(min=1, help="M, in pixels; default: the recipe's.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers whose channels are permuted: names separated by commas."
        ),
    ] = None,
    fold_batch_norm: Annotated[
        bool,
        typer.Option(
            "--fold-batch-norm",
            help="Fold batch norms, so that no running statistics ship.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    about: AboutFile = None,
    example: Example = None,
    freeze_inputs: FreezeInputs = False,
    keep_plain: KeepPlain = False,
    build: BuildName = None,
    *,
    unlock: Unlock,
) -> None:
    """Make a trained model need the key, without training, and write a run folder.

    For an .onnx or .pt2 file it writes the bundle, as `mlguard export` does. With --out
    NAME.safetensors, a .safetensors file of any model becomes a file of the same names,
    shapes and types, every tensor sealed.
    """
    if is_onnx(model):
        if recipe or method or layers or block_size or fold_batch_norm or build:
            raise typer.BadParameter(
                "the weights of an .onnx file are sealed, and nothing else can be "
                "done to it"
            )
        export_onnx(
            model,
            out,
            key,
            about=about,
            example=example,
            freeze_inputs=freeze_inputs,
            unlock=unlock,
        )
        return
    if is_program(model):
        if recipe or method or layers or block_size or fold_batch_norm or build:
            raise typer.BadParameter(
                "the weights of a .pt2 file are sealed, and nothing else can be done "
                "to it"
            )
        export_program(model, out, key, about=about, unlock=unlock)
        return
    refuse_onnx_options(about, example, freeze_inputs=freeze_inputs)
    check_model_path(model, (".safetensors", ".onnx", ".pt2"))
    if is_weights(out):
        others = {"--recipe": recipe, "--set": set_, "--block-size": block_size}
        others |= {
            "--build": build,
            "--layers": layers,
            "--fold-batch-norm": fold_batch_norm,
        }
        others |= {"--method": method if method != "weights" else None}
        bind_weights(model, key, out, unlock, others=others)
        return
    if set_ and recipe is None:
        raise typer.BadParameter("--set needs --recipe")
    settings = read_recipe(recipe, overrides=set_ or []) if recipe else None
    need("mlguard.protect")
    from mlguard.protect import bind_model, bound_recipe, read_plain
    from mlguard.protect.run_folder import protection_of

    _check_outside(out, model)
    refuse_filled_folder(out)
    plain = read_plain(model, settings, build=build_of(build))
    bound = bound_recipe(
        plain,
        methods=_names(method, "--method"),
        block_size=block_size,
        layers=_names(layers, "--layers"),
        fold_batch_norm=fold_batch_norm,
    )
    with open_model_key(key, unlock) as held:
        done = bind_model(
            plain, bound, held.key, out, key_name=held.name, keep_plain=keep_plain
        )
        held.register("run", protection_of(done.run).protection_id.hex())
    _say(done, "the plain model's")


@unlocking
def rebind(
    run: Annotated[Path, typer.Argument(help="The run folder of a bound model.")],
    key: NewKey,
    out: NewRun,
    old_key: Annotated[
        str | None,
        typer.Option(help="Name of the key that RUN needs, if not the one it names."),
    ] = None,
    build: BuildName = None,
    *,
    unlock: Unlock,
) -> None:
    """Give a bound model another key, without training; RUN is not changed."""
    check_model_path(run)
    need("mlguard.protect")
    from mlguard.protect import read_run, rebind_run
    from mlguard.protect.run_folder import protection_of

    _check_outside(out, run)
    refuse_filled_folder(out)
    bound = read_run(run, build=build_of(build))
    protection = protection_of(bound)
    wanted = [(old_key or protection.key_name, protection.key_id), (key, None)]
    with open_model_keys(wanted, unlock) as (old, new):
        done = rebind_run(bound, old.key, new.key, out, key_name=new.name)
        new.register("run", protection_of(done.run).protection_id.hex())
    _say(done, "the old model's")


def _names(text: str | None, option: str) -> list[str]:
    """Return the names in a comma-separated list; none if the option was not given."""
    names = [] if text is None else [name.strip() for name in text.split(",")]
    if not all(names):
        raise typer.BadParameter(
            f"expected names separated by commas, got {text!r}",
            param_hint=option,
        )
    return names


def _check_outside(out: Path, folder: Path) -> None:
    """Refuse to write a protected model into the folder of another."""
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise typer.BadParameter(
            f"{out} is inside {folder}, expected a folder outside it",
            param_hint="--out",
        )


def _say(done: "Bound", whose: str) -> None:
    from mlguard.protect.key_work import key_space_of

    say(f"bound model: {done.run.path}")
    say(
        f"folded in {done.fold_ms:.0f} ms; logits differ from {whose} by at most "
        f"{done.difference:.1e}, the largest logit is {done.largest_logit:.2g}"
    )
    shown = done.run.shown_by_weights
    bits = key_space_of(done.run.recipe, done.run.build, shown=shown)
    warn_of_small_key_space(done.run.recipe.transform, bits, shown=shown)
    if done.unfolded:
        named = ", ".join(f"{name} ({kind})" for name, kind in done.unfolded.items())
        warn(
            "these layers keep their running statistics, because they are not plain "
            f"batch norms: {named}"
        )
    ancestor = done.run.recipe.model.weights
    if ancestor != "none":
        warn(
            f"training started from {ancestor}: a thief with these weights and the "
            "bound ones can pair them and read the key off. Hand on only sealed "
            "bundles; "
            "`mlguard audit --budget quick --attacks public-ancestor` measures it"
        )
