"""`mlguard protect`: train a model that needs the key."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.extras import need
from mlguard.cli.key_space import warn_of_small_key_space
from mlguard.cli.model_key import open_model_key
from mlguard.cli.panels import ADVANCED
from mlguard.cli.recipes import Overrides
from mlguard.cli.trainer import Trainer
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.recipe import read_recipe


@unlocking
def protect(
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a file.")],
    key: Annotated[str, typer.Option(help="Name of the model key in the keystore.")],
    out: Annotated[Path, typer.Option(help="The run folder, new or empty.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    set_: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an unfinished run.")
    ] = False,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline",
            help="Train the plain twin as well; it works without any key.",
        ),
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch VOC 2012 or CIFAR-10.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=ADVANCED)
    ] = "auto",
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Write TensorBoard events too.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    keep_plain: Annotated[
        bool,
        typer.Option(
            "--keep-plain",
            help="With the method weights: leave the run folder in the clear.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    *,
    unlock: Unlock,
) -> None:
    """Train a model that needs the key, and write a run folder to OUT."""
    settings = read_recipe(recipe, overrides=set_ or [])
    need("mlguard.protect")
    from mlguard.protect.key_work import check_twin, key_space_of

    if baseline:
        check_twin(settings)
    warn_of_small_key_space(settings.transform, key_space_of(settings))
    train = Trainer(
        recipe, settings, data, download, device, resume, tensorboard, keep_plain
    )
    with open_model_key(key, unlock, key_id=train.key_id(out)) as held:
        train.protected(out, held)
        if baseline:
            train.plain(out / "baseline", title="plain twin", key=held.key)
