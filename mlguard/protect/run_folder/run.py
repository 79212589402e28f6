"""A finished run, read: under a key, or plain."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mlguard.errors import MalformedRun, RunError, TamperedRun
from mlguard.files import sha256_of
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.protect.key_work import Build, channels_of, keyed_transforms
from mlguard.protect.run_folder.kept import Keeper, is_hidden, is_kept
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
from mlguard.protect.run_folder.weights import (
    check_size,
    filled_model,
    parse_tensors,
    read_whole,
    weights_limit,
)
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
        digests: SHA-256 of each file that the above was read from, in hex.
        keeper: Opens weights that are sealed; None until the key was shown.
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
        """Whether the weights show what the key does to images.

        True of a lifted stem: its zeros and equal weights lie where the key put them.
        """
        bound = self.provenance.get(BOUND)
        return isinstance(bound, dict) and bool(bound.get("tied"))

    def open_weights(self) -> list[Path]:
        """The files in its folder whose weights lie open, the twin's among them.

        Raises:
            MalformedRun: One cannot be read.
        """
        kinds = "*.safetensors", "*.kept"
        files = (file for kind in kinds for file in self.path.rglob(kind))
        return sorted(file for file in files if not is_hidden(file))

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights, in hex, as they were when first looked at.

        From then on no others are taken: what was proved is what is used.

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

    def read_weights(self) -> bytes:
        """The file of its weights, read once.

        Raises:
            MalformedRun: It is missing, cannot be read or is too large.
            TamperedRun: It is not what it was when it was first looked at.
        """
        data = read_whole(self.weights, self._limit)
        found = hashlib.sha256(data).hexdigest()
        # Where the property above keeps what it found: nothing is read twice for it.
        if self.__dict__.setdefault("weights_sha256", found) != found:
            raise TamperedRun(f"{self.weights} was changed while it was in use")
        return data

    def load_model(self) -> nn.Module:
        """The trained model, in eval mode, on the CPU.

        Raises:
            MalformedRun: The weights are missing, damaged or of another model.
            TamperedRun: They are not what they were when they were first looked at, or
                not what this run sealed.
        """
        return filled_model(self.read_tensors(), self.weights, self.recipe, self.build)

    def read_tensors(self) -> dict[str, Tensor]:
        """The weights by name, opened if they are sealed.

        Raises:
            MalformedRun: They are missing or damaged, or sealed and no key was shown.
            TamperedRun: As `load_model`.
        """
        data = self.read_weights()
        if not is_kept(data):
            return parse_tensors(data, self.weights)
        if self.keeper is None:
            raise MalformedRun(
                f"{self.weights} is sealed, and its key was not shown",
                hint="open the run with its key: `run.unlocked(key)`",
            )
        return self.keeper.parse(self.weights, data)[0]

    def unlocked(self, key: ModelKey) -> "Run":
        """The same run, its weights open to who asks. As `check`, which it does first.

        Raises:
            WrongKey: The model was protected with another key.
            TamperedRun: The holder of the key did not make this run.
            MalformedRun: This is a plain run, which needs no key.
        """
        return self._opened_by(Keeper(self.check(key), RUN))

    def _opened_by(self, keeper: Keeper) -> "Run":
        opened = replace(self, keeper=keeper)
        # What was proved is what is used: the digest is not taken again.
        opened.__dict__["weights_sha256"] = self.weights_sha256
        return opened

    def check(self, key: ModelKey) -> ModelSubkeys:
        """The subkeys of the model, once it is proved that their holder made the run.

        Raises:
            WrongKey: The model was protected with another key.
            TamperedRun: The holder of the key did not make this run.
            MalformedRun: This is a plain run, which needs no key.
        """
        subkeys = protection_of(self).subkeys(key)
        check(self.path, self._proof, subkeys, self._all_digests, role=RUN)
        return subkeys

    def baseline(self, key: ModelKey | None = None) -> "Run | None":
        """The plain twin, if there is one.

        Args:
            key: The key of this run: a twin that it does not vouch for is refused.

        Raises:
            MalformedRun: It was trained on other images or by another recipe, so
                that a comparison with it would not be fair.
            WrongKey: The model was protected with another key.
            TamperedRun: The holder of the key did not make the twin.
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
        # Version 0.1 vouched for no twin.
        if key is not None and not self.old_proof:
            subkeys = protection_of(self).subkeys(key)
            check(folder, twin._proof, subkeys, twin._all_digests, role=TWIN)
            twin = twin._opened_by(Keeper(subkeys, TWIN))
        return twin

    def transform(self, key: ModelKey) -> TransformSet:
        """What the key does for this model.

        Raises:
            WrongKey: The model was protected with another key.
            TamperedRun: The holder of the key did not make this run.
            MalformedRun: This is a plain run, which needs no key.
        """
        return self.derive(self.check(key))

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

    @property
    def old_proof(self) -> bool:
        """Whether its proof is of version 0.1, of recipe and weights alone."""
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
    def _channels(self) -> dict[str, int]:
        return channels_of(self.recipe, self.build)  # builds the model


def is_finished(path: Path) -> bool:
    """Whether training in a folder came to its end."""
    unfinished = any((path / name).exists() for name in (CHECKPOINT, OLD_CHECKPOINT))
    return (path / MODEL).exists() and not unfinished


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
        RunError: Its model was made by a `build`, and none is given.
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
    """Refuse a model that no recipe builds, where nobody says what does.

    Raises:
        RunError: It was trained or bound with a `build` of its owner's.
    """
    name = setup.provenance.get(BUILT_BY)
    if build is None and isinstance(name, str):
        raise RunError(
            f"the model of {path} is its owner's: {name} made it, and no recipe does",
            hint="give what makes it: `--build MODULE:FUNCTION` on the command line, "
            "`read_run(path, build=…)` in Python; no file names what is imported",
        )


def write_proofs(path: Path, protection: Protection, key: ModelKey) -> None:
    """Prove with the key what its holder has just written into a new folder.

    Only for a folder that nobody else could write to: what lies there is read.

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
    """What a protected model and its twin must share.

    What binding does to an architecture changes nothing of what it computes.
    """
    recipe = decisive(run.recipe)
    model = recipe.model.model_copy(update={"stem": "plain", "batch_norm": "running"})
    return recipe.data, model, recipe.train, run.provenance["data"]
