"""A run folder: what protecting a model leaves behind. It never holds a key.

recipe.toml         the resolved recipe
protection.json     protection_id and key id; absent in a baseline run
proofs.json         that the holder of the key made the recipe and the model
provenance.json     data fingerprint, versions, machine
metrics.jsonl       one line for each epoch
model.safetensors   the weights the recipe's `keep` chose
curves.png          the metrics as a picture
checkpoint.safetensors  only while training is unfinished
baseline/           the plain twin, a run folder of its own
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mlguard.errors import MalformedRun, RecipeError, WrongKey
from mlguard.files import atomic_write, read_bounded
from mlguard.keys import PROTECTION_ID_BYTES, ModelKey, ModelSubkeys
from mlguard.protect.checkpoint import contiguous
from mlguard.protect.key_work import blank_model, channels_of, keyed_transforms
from mlguard.protect.proofs import check_model, check_setup, prove
from mlguard.recipe import MAX_RECIPE_BYTES, Recipe, dump_recipe, parse_recipe
from mlguard.transforms import TransformSet

RECIPE = "recipe.toml"
PROTECTION = "protection.json"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
CURVES = "curves.png"
BASELINE = "baseline"
BOUND = "bound"  # in provenance.json: what binding did
MAX_JSON_BYTES = 1 << 20  # a page of text; the reader takes nothing larger


@dataclass(frozen=True)
class Protection:
    """Which key a model needs. All of it is public.

    Attributes:
        protection_id: 16 random bytes, made when protection started.
        key_id: The public name of the key.
        key_name: What the owner's keystore calls it.
    """

    protection_id: bytes
    key_id: str
    key_name: str

    def subkeys(self, key: ModelKey) -> ModelSubkeys:
        """The subkeys of this model.

        Raises:
            WrongKey: The model was protected with another key.
        """
        if key.key_id != self.key_id:
            raise WrongKey(
                f"the model was protected with key {self.key_id} "
                f"({self.key_name!r}), got key {key.key_id}"
            )
        return key.for_model(self.protection_id)


@dataclass(frozen=True)
class Run:
    """A finished run folder, read.

    Attributes:
        path: The folder.
        recipe: The resolved recipe.
        protection: Which key the model needs; None for a baseline run.
        provenance: What `provenance.json` says.
        build: Makes the model, if the recipe's architecture does not.
    """

    path: Path
    recipe: Recipe
    protection: Protection | None
    provenance: dict[str, Any]
    build: Callable[[], nn.Module] | None = None

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
        return read_model(self.path / MODEL, self.recipe, self.build)

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


def read_run(path: Path, *, build: Callable[[], nn.Module] | None = None) -> Run:
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


def read_model(
    path: Path, recipe: Recipe, build: Callable[[], nn.Module] | None = None
) -> nn.Module:
    """Read the weights of a recipe's model, in eval mode, on the CPU.

    Every tensor of the model must be in the file, and no other.

    Raises:
        MalformedRun: The file is missing, cannot be read, is damaged, or holds the
            weights of another model.
    """
    model = blank_model(recipe, build)
    tensors = _read_tensors(path)
    problem = load_tensors(model, tensors)
    if problem:
        raise MalformedRun(
            f"{path} holds the weights of another model: {problem}",
            hint="the model's name, its options and the classes of the recipe must be "
            "those that the weights were trained with",
        )
    return model.eval()


def read_provenance(path: Path) -> dict[str, Any]:
    """What `provenance.json` of a run folder says.

    Raises:
        MalformedRun: It is missing or damaged.
    """
    file = path / PROVENANCE
    try:
        facts = json.loads(read_bounded(file, MAX_JSON_BYTES).decode())
        if isinstance(facts["data"], dict) and isinstance(facts["resumed"], list):
            return dict(facts)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise MalformedRun(f"{file} is missing or damaged")


def read_setup(path: Path) -> tuple[Recipe, Protection | None]:
    """The recipe and the protection of a run folder, finished or not.

    Raises:
        MalformedRun: One of them is missing or damaged.
    """
    try:
        text = read_bounded(path / RECIPE, MAX_RECIPE_BYTES).decode()
        recipe = parse_recipe(text, name=str(path / RECIPE))
    except (OSError, UnicodeDecodeError, RecipeError) as error:
        raise MalformedRun(f"{path} is not a run folder: {error}") from None
    file = path / PROTECTION
    return recipe, _read_protection(file) if file.exists() else None


def write_setup(path: Path, recipe: Recipe, protection: Protection | None) -> None:
    """Write what must be known before the first step.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    if protection is not None:
        fields = {
            "protection_id": protection.protection_id.hex(),
            "key_id": protection.key_id,
            "key_name": protection.key_name,
        }
        write_json(path / PROTECTION, fields)
    atomic_write(path / RECIPE, dump_recipe(recipe).encode())


def write_proofs(path: Path, protection: Protection, key: ModelKey) -> None:
    """Prove with the key that its holder made what is in the folder so far.

    Raises:
        WrongKey: The run was begun with another key.
        OutputError: There is no space, or the folder is not writable.
    """
    subkeys = protection.subkeys(key)
    prove(path, subkeys, recipe=path / RECIPE, model=path / MODEL)


def write_model(path: Path, model: nn.Module) -> None:
    """Write the weights of a model as safetensors."""
    atomic_write(path, save(contiguous(model.state_dict())))


def write_metrics(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, one line of JSON for each epoch."""
    atomic_write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Write a small JSON file for people and programs."""
    atomic_write(path, (json.dumps(fields, indent=2) + "\n").encode())


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise MalformedRun(f"{path}: no such file") from None
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, ValueError) as error:
        raise MalformedRun(
            f"{path} is damaged, or no safetensors file: {error}"
        ) from None


def load_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> str:
    """Load the tensors; what is wrong with the first that does not fit, else empty."""
    for name, own in model.state_dict().items():
        if name in tensors and tensors[name].shape != own.shape:
            found, expected = tuple(tensors[name].shape), tuple(own.shape)
            return f"tensor {name} has shape {found}, expected {expected}"
    keys = model.load_state_dict(tensors, strict=False)
    if keys.missing_keys:
        return f"tensor {keys.missing_keys[0]} is missing"
    if keys.unexpected_keys:
        return f"there is a tensor {keys.unexpected_keys[0]!r:.100} too many"
    return ""


def _fair_terms(run: Run) -> tuple[object, ...]:
    """What a protected model and its twin must share.

    What binding does to an architecture changes nothing of what it computes.
    """
    recipe = run.recipe
    model = recipe.model.model_copy(update={"stem": "plain", "batch_norm": "running"})
    return recipe.data, model, recipe.train, run.provenance["data"]


def _read_protection(path: Path) -> Protection:
    try:
        fields = json.loads(read_bounded(path, MAX_JSON_BYTES).decode())
        protection_id = bytes.fromhex(fields["protection_id"])
        key_id, key_name = fields["key_id"], fields["key_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise MalformedRun(f"{path} is damaged") from None
    texts = isinstance(key_id, str) and isinstance(key_name, str)
    if len(protection_id) != PROTECTION_ID_BYTES or not texts:
        raise MalformedRun(f"{path} is damaged")
    return Protection(protection_id, key_id, key_name)
