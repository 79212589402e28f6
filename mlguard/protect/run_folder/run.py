"""Read a finished run, protected or plain."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor, nn

from mlguard.errors import MalformedRun, RunError, TamperedRun
from mlguard.files import sha256_of
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.protect.key_work import Build, keyed_transforms
from mlguard.protect.run_folder.kept import Keeper, is_hidden, is_kept
from mlguard.protect.run_folder.limits import check_size
from mlguard.protect.run_folder.names import (
    BASELINE,
    BOUND,
    BUILT_BY,
    CHECKPOINT,
    MODEL,
    OLD_CHECKPOINT,
    RECIPE,
)
from mlguard.protect.run_folder.proofs import (
    RUN,
    TWIN,
    check,
    claims_model,
    is_old,
    prove,
    read_proof,
    refuse_planted,
)
from mlguard.protect.run_folder.secret import decisive
from mlguard.protect.run_folder.setup import Protection, Setup, read_setup
from mlguard.protect.run_folder.tensor_files import hashed_file, tensors_of
from mlguard.protect.run_folder.weights import filled_model, weights_limit
from mlguard.recipe import Recipe
from mlguard.transforms import KeyedTransforms, TransformSet


@dataclass(frozen=True)
class Run:
    """A trained model and the facts about it.

    Attributes:
        path: Its folder.
        recipe: The resolved recipe.
        protection: Which key the model needs; None for a plain one.
        provenance: The contents of `provenance.json`.
        build: A function that makes the model, if the recipe's architecture does not.
        model_file: The name of its weights file; it may lie in another program's
            folder.
        digests: SHA-256 of each file read, in hex.
        keeper: Opens sealed weights; None until the key is given.
    """

    path: Path
    recipe: Recipe
    protection: Protection | None
    provenance: dict[str, Any]
    build: Build | None = None
    model_file: str = MODEL
    digests: Mapping[str, str] = field(default_factory=dict, repr=False)
    keeper: Keeper | None = field(default=None, repr=False)

    @property
    def weights(self) -> Path:
        """The file of its weights: safetensors, sealed by the method `weights`."""
        return self.path / self.model_file

    @property
    def shown_by_weights(self) -> bool:
        """Whether the weights reveal the transform of images.

        They do in a lifted stem: its zeros and equal weights lie where the key put
            them.
        """
        bound = self.provenance.get(BOUND)
        return isinstance(bound, dict) and bool(bound.get("tied"))

    def open_weights(self) -> list[Path]:
        """The files in its folder with weights in the clear, including the twin's.

        Raises:
            MalformedRun: A file cannot be read.
        """
        kinds = "*.safetensors", "*.kept"
        files = (file for kind in kinds for file in self.path.rglob(kind))
        return sorted(file for file in files if not is_hidden(file))

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights, in hex, as they were when first read.

        From then on no others are accepted, so that the proved weights are the ones
        used.

        Raises:
            MalformedRun: They are missing, or cannot be read.
        """
        check_size(self.weights, self._limit)
        try:
            return sha256_of(self.weights)
        except OSError as error:
            raise MalformedRun(
                f"cannot read {self.weights}: {error.strerror}"
            ) from None

    def copy_weights(self, file: BinaryIO) -> None:
        """Write the bytes of its weights file into another, read once.

        Raises:
            MalformedRun: It is missing, cannot be read or is too large.
            TamperedRun: It was changed after it was first read.
        """
        with hashed_file(self.weights, self._limit) as own:
            for chunk in own.chunks():
                file.write(chunk)
            self._hold(own.sha256())

    def _hold(self, found: str) -> None:
        """Refuse other weights than those that were first read."""
        # Where the property above keeps its value: nothing is read twice for it.
        if self.__dict__.setdefault("weights_sha256", found) != found:
            raise TamperedRun(f"{self.weights} was changed while it was in use")

    def load_model(self) -> nn.Module:
        """Return the trained model, in eval mode, on the CPU.

        Raises:
            MalformedRun: The weights are missing, damaged or of another model.
            TamperedRun: They were changed after they were first read, or after this run
                sealed them.
        """
        return filled_model(self.read_tensors(), self.weights, self.recipe, self.build)

    def read_tensors(self) -> dict[str, Tensor]:
        """Return the weights by name, opened if they are sealed.

        Raises:
            MalformedRun: They are missing or damaged, or sealed and no key was given.
            TamperedRun: As in `load_model`.
        """
        with hashed_file(self.weights, self._limit) as file:
            if is_kept(file.head):
                data = b"".join(file.chunks())
                self._hold(file.sha256())
                if self.keeper is None:
                    raise MalformedRun(
                        f"{self.weights} is sealed, and its key was not given",
                        hint="open the run with its key: `run.unlocked(key)`",
                    )
                return self.keeper.parse(self.weights, data)[0]
            try:
                return tensors_of(file)
            finally:  # also of a damaged file: it may be another than the proved one
                self._hold(file.sha256())

    def unlocked(self, key: ModelKey) -> "Run":
        """Return the run with its weights opened by the key, after `check`.

        Raises:
            WrongKey: The model was protected with another key.
            TamperedRun: This run was not made with the key.
            MalformedRun: This is a plain run, which needs no key.
        """
        return self._opened_by(Keeper(self.check(key), RUN))

    def _opened_by(self, keeper: Keeper) -> "Run":
        opened = replace(self, keeper=keeper)
        # The proved weights are the ones used: the digest is not taken again.
        opened.__dict__["weights_sha256"] = self.weights_sha256
        return opened

    def check(self, key: ModelKey) -> ModelSubkeys:
        """Return the model's subkeys, after proving that the run was made with them.

        Raises:
            WrongKey: The model was protected with another key.
            TamperedRun: This run was not made with the key.
            MalformedRun: This is a plain run, which needs no key.
        """
        subkeys = protection_of(self).subkeys(key)
        check(self.path, self._proof, subkeys, self._all_digests, role=RUN)
        return subkeys

    def baseline(self, key: ModelKey | None = None) -> "Run | None":
        """Return the plain twin, if there is one.

        Args:
            key: The key of this run; a twin without its proof is refused.

        Raises:
            MalformedRun: It was trained on other images or by another recipe, so
                that a comparison with it would not be fair.
            WrongKey: The model was protected with another key.
            TamperedRun: The twin was not made with the key.
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
        # Version 0.1 proved no twin.
        if key is not None and not self.old_proof:
            subkeys = protection_of(self).subkeys(key)
            check(folder, twin._proof, subkeys, twin._all_digests, role=TWIN)
            twin = twin._opened_by(Keeper(subkeys, TWIN))
        return twin

    def transform(self, key: ModelKey) -> TransformSet:
        """Return the key's transforms of this model.

        Raises:
            WrongKey: The model was protected with another key.
            TamperedRun: This run was not made with the key.
            MalformedRun: This is a plain run, which needs no key.
        """
        return self.derive(self.check(key))

    def derive(self, subkeys: ModelSubkeys) -> TransformSet:
        """Return any key's transforms of this model, be it the correct key or not.

        Raises:
            RecipeError: The model lacks a layer that the recipe names.
        """
        return self._keyed.derive(subkeys)

    def feature_channels(self) -> dict[str, int]:
        """Return the number of channels of each layer whose output the key permutes.

        Raises:
            RecipeError: The model lacks a layer that the recipe names.
        """
        return {one.layer: one.channels for one in self._keyed.layers}

    @property
    def old_proof(self) -> bool:
        """Whether its proof is of version 0.1, over recipe and weights alone."""
        return is_old(self._proof)

    @cached_property
    def _proof(self) -> dict[str, Any]:
        return read_proof(self.path)

    @property
    def _all_digests(self) -> dict[str, str]:
        return {**self.digests, MODEL: self.weights_sha256}

    @cached_property
    def _limit(self) -> int:
        return weights_limit(self.recipe, self.build)

    @cached_property
    def _keyed(self) -> KeyedTransforms:
        return keyed_transforms(self.recipe, self.build)  # builds the model


def is_finished(path: Path) -> bool:
    """Whether training in a folder is finished."""
    unfinished = any((path / name).exists() for name in (CHECKPOINT, OLD_CHECKPOINT))
    return (path / MODEL).exists() and not unfinished


def protection_of(run: Run) -> Protection:
    """Return which key a run needs.

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
        build: The function that makes the model, if it was trained with a `build`.

    Raises:
        MalformedRun: It is not a run folder, is damaged, or is not finished.
        RunError: Its model was made by a `build`, but none is given.
    """
    if not is_finished(path):
        if not (path / RECIPE).exists():
            raise MalformedRun(
                f"{path} is not a run folder",
                hint="give the --out of `mlguard protect` or `mlguard bind`",
            )
        if (path / MODEL).exists() and claims_model(read_proof(path)):
            raise refuse_planted(path)
        raise MalformedRun(
            f"training in {path} is not finished",
            hint="go on with `mlguard protect … --resume`",
        )
    setup = read_setup(path)
    refuse_unbuilt(path, setup, build)
    return Run(
        path,
        setup.recipe,
        setup.protection,
        setup.provenance,
        build,
        digests=setup.digests,
    )


def refuse_unbuilt(path: Path, setup: Setup, build: Build | None) -> None:
    """Refuse a model of a `build` if none is given.

    Raises:
        RunError: It was trained or bound with a `build`.
    """
    name = setup.provenance.get(BUILT_BY)
    if build is None and isinstance(name, str):
        raise RunError(
            f"the model of {path} was made by {name}, and no recipe can build it",
            hint="name the function that makes it: `--build MODULE:FUNCTION` on the "
            "command line, `read_run(path, build=…)` in Python; no file may name code "
            "to import",
        )


def write_proofs(path: Path, protection: Protection, key: ModelKey) -> None:
    """Write the proofs of the files just written into a new folder.

    Use it only for a folder that nobody else could write to: its files are read.

    Raises:
        WrongKey: The run was begun with another key.
        OutputError: There is no space, or the folder is not writable.
    """
    subkeys = protection.subkeys(key)
    for folder, role in ((path, RUN), (path / BASELINE, TWIN)):
        if (folder / RECIPE).exists():
            digests = read_setup(folder).digests
            if (folder / MODEL).exists():
                digests[MODEL] = sha256_of(folder / MODEL)
            prove(folder, subkeys, digests, role=role)


def _fair_terms(run: Run) -> tuple[object, ...]:
    """Return what a protected model and its twin must share.

    Binding changes an architecture but not what it computes.
    """
    recipe = decisive(run.recipe)
    model = recipe.model.model_copy(update={"stem": "plain", "batch_norm": "running"})
    return recipe.data, model, recipe.train, run.provenance["data"]
