"""`mlguard protect`: train a model that needs the key."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlguard.cli.checking_progress import count_on_terminal
from mlguard.cli.extras import need
from mlguard.cli.key_space import warn_of_small_key_space
from mlguard.cli.model_key import HeldKey, open_model_key
from mlguard.cli.recipes import Overrides
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from mlguard.protect import Job, Protection


@unlocking
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
    *,
    unlock: Unlock,
) -> None:
    """Train a model that needs the key, and leave a run folder in OUT."""
    settings = read_recipe(recipe, overrides=set_ or [])
    need("mlguard.protect")
    from mlguard.protect.key_work import key_space_of

    warn_of_small_key_space(settings.transform, key_space_of(settings))
    train = _Trainer(recipe, settings, data, download, device, resume, tensorboard)
    with open_model_key(key, unlock, key_id=train.key_id(out)) as held:
        train.protected(out, held)
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

    def key_id(self, out: Path) -> str | None:
        """The key that a run to go on with was begun with."""
        from mlguard.protect.run import PROTECTION, read_setup

        if not self.resume or not (out / PROTECTION).exists():
            return None
        _, protection = read_setup(out)
        return protection.key_id if protection else None

    def protected(self, out: Path, held: HeldKey) -> None:
        def begun(protection: "Protection") -> None:
            held.register("run", protection.protection_id.hex())

        with self._job("protected model", out, begun) as job:
            job.protect(held.key, key_name=held.name)
        _say_where(f"protected model: {out}")

    def baseline(self, out: Path) -> None:
        with self._job("plain twin", out) as job:
            job.train_baseline()
        _say_where(f"plain twin: {out}")

    @contextmanager
    def _job(
        self, title: str, out: Path, begun: "Callable[[Protection], None] | None" = None
    ) -> "Iterator[Job]":
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
                begun=begun or (lambda protection: None),
            )


def _say_where(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # torchrun numbers its processes
        print(text)
