"""A finished run, read: under a key, or plain."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from mlguard.errors import MalformedRun
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.protect.key_work import Build, channels_of, keyed_transforms
from mlguard.protect.run_folder.names import (
    BASELINE,
    BOUND,
    CHECKPOINT,
    MODEL,
    RECIPE,
)
from mlguard.protect.run_folder.proofs import check_model, check_setup, prove
from mlguard.protect.run_folder.secret import decisive
from mlguard.protect.run_folder.setup import (
    Protection,
    read_provenance,
    read_setup,
)
from mlguard.protect.run_folder.weights import read_model
from mlguard.recipe import Recipe
from mlguard.transforms import TransformSet


@dataclass(frozen=True)
class Run:
    """A trained model and what is known of it.

    Attributes:
        path: Its folder.
        recipe: The resolved recipe.
        protection: Which key the model needs; None of a plain one.
        provenance: What `provenance.json` says.
        build: Makes the model, if the recipe's architecture does not.
        model_file: What its weights are called; they may lie in a folder of another
            program.
    """

    path: Path
    recipe: Recipe
    protection: Protection | None
    provenance: dict[str, Any]
    build: Build | None = None
    model_file: str = MODEL

    @property
    def weights(self) -> Path:
        """The file of its weights, safetensors."""
        return self.path / self.model_file

    @property
    def shown_by_weights(self) -> bool:
        """Whether the weights show what the key does to images.

        True of a lifted stem: its zeros and equal weights lie where the key put them.
        """
        bound = self.provenance.get(BOUND)
        return isinstance(bound, dict) and bool(bound.get("tied"))

    def load_model(self) -> nn.Module:
        """The trained model, in eval mode, on the CPU.

        Raises:
            MalformedRun: As `read_model`.
        """
        return read_model(self.weights, self.recipe, self.build)

    def baseline(self) -> "Run | None":
        """The plain twin, if one was trained.

        Raises:
            MalformedRun: It was trained on other images or by another recipe, so
                that a comparison with it would not be fair.
        """
        folder = self.path / BASELINE
        if not (folder / MODEL).exists():
            return None
        twin = read_run(folder, build=self.build)
        if _fair_terms(twin) != _fair_terms(self):
            raise MalformedRun(
                f"{folder} was trained on other images or by another recipe than "
                f"{self.path}",
                hint="delete it and train it again with `mlguard protect --baseline`",
            )
        return twin

    def transform(self, key: ModelKey) -> TransformSet:
        """What the key does for this model.

        Raises:
            WrongKey: The model was protected with another key.
            TamperedRun: The holder of the key did not make this run.
            MalformedRun: This is a baseline run, which needs no key.
        """
        subkeys = protection_of(self).subkeys(key)
        check_setup(self.path, subkeys, recipe=self.path / RECIPE)
        check_model(self.path, subkeys, model=self.path / MODEL)
        return self.derive(subkeys)

    def derive(self, subkeys: ModelSubkeys) -> TransformSet:
        """What any key's subkeys do for this model, be it the correct key or not.

        Raises:
            RecipeError: The model does not have the layers that the recipe names.
        """
        keyed = keyed_transforms(self.recipe.transform, self._channels)
        return keyed.derive(subkeys)

    def feature_channels(self) -> dict[str, int]:
        """How many channels each layer has whose output the key permutes.

        Raises:
            RecipeError: The model does not have the layers that the recipe names.
        """
        return dict(self._channels)

    @cached_property
    def _channels(self) -> dict[str, int]:
        return channels_of(self.recipe, self.build)  # builds the model


def is_finished(path: Path) -> bool:
    """Whether training in a folder came to its end."""
    return (path / MODEL).exists() and not (path / CHECKPOINT).exists()


def protection_of(run: Run) -> Protection:
    """Which key a run needs.

    Raises:
        MalformedRun: It is a baseline run, which needs none.
    """
    if run.protection is None:
        raise MalformedRun(
            f"{run.path} is a baseline run and needs no key",
            hint="give the protected run that it belongs to, the folder above it; or "
            "give it a key with `mlguard bind`",
        )
    return run.protection


def read_run(path: Path, *, build: Build | None = None) -> Run:
    """Read a finished run folder.

    Args:
        path: The folder.
        build: Makes the model, if it was trained with a `build` of its own.

    Raises:
        MalformedRun: It is not a run folder, is damaged, or is not finished.
    """
    if (path / CHECKPOINT).exists() or not (path / MODEL).exists():
        if (path / RECIPE).exists():
            raise MalformedRun(
                f"training in {path} is not finished",
                hint="go on with `mlguard protect … --resume`",
            )
        raise MalformedRun(
            f"{path} is not a run folder",
            hint="give the --out of `mlguard protect` or `mlguard bind`",
        )
    recipe, protection = read_setup(path)
    return Run(path, recipe, protection, read_provenance(path), build)


def write_proofs(path: Path, protection: Protection, key: ModelKey) -> None:
    """Prove with the key that its holder made what is in the folder so far.

    Raises:
        WrongKey: The run was begun with another key.
        OutputError: There is no space, or the folder is not writable.
    """
    subkeys = protection.subkeys(key)
    prove(path, subkeys, recipe=path / RECIPE, model=path / MODEL)


def _fair_terms(run: Run) -> tuple[object, ...]:
    """What a protected model and its twin must share.

    What binding does to an architecture changes nothing of what it computes.
    """
    recipe = decisive(run.recipe)
    model = recipe.model.model_copy(update={"stem": "plain", "batch_norm": "running"})
    return recipe.data, model, recipe.train, run.provenance["data"]
