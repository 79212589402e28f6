"""`mlguard protect`: train a model that needs the key."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlguard.cli.checking_progress import count_on_terminal
from mlguard.cli.extras import need
from mlguard.cli.key_space import warn_of_small_key_space
from mlguard.cli.recipes import Overrides
from mlguard.cli.unlock import (
    DEFAULT_KEYSTORE,
    IdentityFile,
    KeystorePath,
    PassphraseFd,
    PassphraseFile,
    read_model_key,
)
from mlguard.keys import ModelKey
from mlguard.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from mlguard.protect import Job


def protect(
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a file.")],
    key: Annotated[str, typer.Option(help="Name of the model key in the keystore.")],
    out: Annotated[Path, typer.Option(help="The run folder; new or empty.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    set_: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run.")
    ] = False,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Train the plain twin as well.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch VOC 2012.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")
    ] = False,
    keystore: KeystorePath = DEFAULT_KEYSTORE,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseFd = None,
    identity: IdentityFile = None,
) -> None:
    """Train a model that needs the key, and leave a run folder in OUT."""
    settings = read_recipe(recipe, overrides=set_ or [])
    warn_of_small_key_space(settings.transform)
    need("mlguard.protect")
    model_key = read_model_key(
        key,
        keystore=keystore,
        passphrase_file=passphrase_file,
        passphrase_fd=passphrase_fd,
        identity=identity,
    )
    train = _Trainer(recipe, settings, data, download, device, resume, tensorboard)
    train.protected(out, model_key, key)
    if baseline:
        train.baseline(out / "baseline")


@dataclass(frozen=True)
class _Trainer:
    """What the protected model and its plain twin have in common."""

    name: str
    recipe: Recipe
    data: Path | None
    download: bool
    device: str
    resume: bool
    tensorboard: bool

    def protected(self, out: Path, key: ModelKey, key_name: str) -> None:
        with self._job("protected model", out) as job:
            job.protect(key, key_name=key_name)
        _say_where(f"protected model: {out}")

    def baseline(self, out: Path) -> None:
        with self._job("plain twin", out) as job:
            job.train_baseline()
        _say_where(f"plain twin: {out}")

    @contextmanager
    def _job(self, title: str, out: Path) -> "Iterator[Job]":
        """One training job, with its progress shown."""
        from mlguard.cli.training_progress import show_training, tensorboard_sink
        from mlguard.protect import Job, Source

        sinks = [tensorboard_sink(out / "tensorboard")] if self.tensorboard else []
        with (
            show_training(title, *sinks) as watch,
            count_on_terminal("checking images") as check,
        ):
            yield Job(
                path=out,
                recipe=self.recipe,
                source=Source(self.data, self.download),
                recipe_name=Path(self.name).stem,
                device=self.device,
                resume=self.resume,
                watch=watch,
                check=check,
            )


def _say_where(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # torchrun numbers its processes
        print(text)
