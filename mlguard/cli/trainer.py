"""Run a training job of the command line, and show its progress."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlguard.cli.checking_progress import count_on_terminal
from mlguard.cli.model_key import HeldKey
from mlguard.cli.printable import say, warn
from mlguard.keys import ModelKey
from mlguard.recipe import Recipe

if TYPE_CHECKING:
    from mlguard.protect import Job, Protection


@dataclass(frozen=True)
class Trainer:
    """A trainer of protected and plain models.

    Attributes:
        name: The name of the recipe.
        recipe: The recipe.
        data: Folder of the data set.
        download: Whether torchvision may fetch it.
        device: "auto", "cpu" or "cuda".
        resume: Resume an unfinished run.
        tensorboard: Write TensorBoard events too.
        keep_plain: Leave the run folder in the clear, whatever the method.
    """

    name: str
    recipe: Recipe
    data: Path | None
    download: bool
    device: str
    resume: bool
    tensorboard: bool
    keep_plain: bool = False

    def key_id(self, out: Path) -> str | None:
        """Return the key that the run to resume was begun with."""
        from mlguard.protect.run_folder import PROTECTION, read_setup

        if not self.resume or not (out / PROTECTION).exists():
            return None
        protection = read_setup(out).protection
        return protection.key_id if protection else None

    def protected(self, out: Path, held: HeldKey) -> None:
        """Train a model that needs the key."""

        def begun(protection: "Protection") -> None:
            held.register("run", protection.protection_id.hex())

        with self._job("protected model", out, begun) as job:
            job.protect(held.key, key_name=held.name)
        _say_where(f"protected model: {out}")

    def plain(self, out: Path, *, title: str, key: ModelKey | None = None) -> None:
        """Train a plain model; with a key, the plain twin of a protected one."""
        with self._job(title, out) as job:
            job.train_baseline(key)
        _say_where(f"{title}: {out}")

    @contextmanager
    def _job(
        self, title: str, out: Path, begun: "Callable[[Protection], None] | None" = None
    ) -> "Iterator[Job]":
        """Return a training job that shows its progress."""
        from mlguard.cli.training_progress import show_training, tensorboard_sink
        from mlguard.protect import DataFolder, Job, named_recipe

        data = DataFolder(self.data, self.download)
        recipe = named_recipe(self.recipe, data)
        sinks = [tensorboard_sink(out / "tensorboard")] if self.tensorboard else []
        with (
            show_training(title, *sinks) as watch,
            count_on_terminal("checking images") as check,
        ):
            yield Job(
                path=out,
                recipe=recipe,
                data=data,
                recipe_name=Path(self.name).stem,
                device=self.device,
                resume=self.resume,
                keep_plain=self.keep_plain,
                watch=watch,
                check=check,
                notice=warn,
                begun=begun or (lambda protection: None),
            )


def _say_where(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # torchrun numbers its processes
        say(text)
