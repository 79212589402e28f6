"""`mlguard train`: train a plain model, from which binding starts."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.extras import need
from mlguard.cli.panels import ADVANCED
from mlguard.cli.recipes import Overrides
from mlguard.cli.trainer import Trainer
from mlguard.recipe import read_recipe


def train(
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a file.")],
    out: Annotated[Path, typer.Option(help="The run folder, new or empty.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    set_: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an unfinished run.")
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
) -> None:
    """Train a plain model that needs no key; `mlguard bind` gives it one."""
    settings = read_recipe(recipe, overrides=set_ or [])
    need("mlguard.protect")
    job = Trainer(recipe, settings, data, download, device, resume, tensorboard)
    job.plain(out, title="plain model")
