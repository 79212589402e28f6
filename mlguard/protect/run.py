"""A run folder: what protecting a model leaves behind. It never holds a key.

recipe.toml         the resolved recipe
protection.json     protection_id and key id; absent in a baseline run
provenance.json     data fingerprint, versions, machine
metrics.jsonl       one line for each epoch
model.safetensors   the weights the recipe's `keep` chose
curves.png          the metrics as a picture
checkpoint.safetensors  only while training is unfinished
baseline/           the plain twin, a run folder of its own
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from mlguard.errors import MalformedRun, RecipeError, WrongKey
from mlguard.files import atomic_write
from mlguard.keys import PROTECTION_ID_BYTES, ModelKey
from mlguard.models import build_model
from mlguard.protect.checkpoint import contiguous
from mlguard.recipe import Recipe, dump_recipe, parse_recipe
from mlguard.transforms import Transform, derive_transform

RECIPE = "recipe.toml"
PROTECTION = "protection.json"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
CURVES = "curves.png"
BASELINE = "baseline"


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

    def transform(self, recipe: Recipe, key: ModelKey) -> Transform:
        """Derive what the key does to this model's images.

        Raises:
            WrongKey: The model was protected with another key.
        """
        if key.key_id != self.key_id:
            raise WrongKey(
                f"the model was protected with key {self.key_id} "
                f"({self.key_name!r}), got key {key.key_id}"
            )
        return derive_transform(
            recipe.transform.methods,
            key.for_model(self.protection_id),
            recipe.transform.block_size,
        )


@dataclass(frozen=True)
class Run:
    """A finished run folder, read."""

    path: Path
    recipe: Recipe
    protection: Protection | None
    provenance: dict[str, Any]

    def load_model(self) -> nn.Module:
        """The trained model, in eval mode, on the CPU.

        Raises:
            MalformedRun: The weights are missing, damaged or of another model.
        """
        # The starting weights would be overwritten, so they are not looked for.
        spec = self.recipe.model.model_copy(update={"weights": "none"})
        model = build_model(spec, self.recipe.data.classes)
        path = self.path / MODEL
        try:
            model.load_state_dict(load_file(path))
        except (SafetensorError, OSError, RuntimeError, ValueError):
            raise MalformedRun(
                f"{path} is missing, damaged or of another model"
            ) from None
        return model.eval()

    def baseline(self) -> "Run | None":
        """The plain twin, if one was trained."""
        folder = self.path / BASELINE
        return read_run(folder) if (folder / MODEL).exists() else None

    def transform(self, key: ModelKey) -> Transform:
        """What the key does to this model's images.

        Raises:
            WrongKey: The model was protected with another key.
            MalformedRun: This is a baseline run, which needs no key.
        """
        if self.protection is None:
            raise MalformedRun(f"{self.path} is a baseline run and needs no key")
        return self.protection.transform(self.recipe, key)


def read_run(path: Path) -> Run:
    """Read a finished run folder.

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
            f"{path} is not a run folder", hint="give the --out of `mlguard protect`"
        )
    recipe, protection = read_setup(path)
    try:
        provenance = json.loads((path / PROVENANCE).read_text())
    except (OSError, ValueError) as error:
        raise MalformedRun(f"{path / PROVENANCE}: {error}") from None
    return Run(path, recipe, protection, provenance)


def read_setup(path: Path) -> tuple[Recipe, Protection | None]:
    """The recipe and the protection of a run folder, finished or not.

    Raises:
        MalformedRun: One of them is missing or damaged.
    """
    try:
        text = (path / RECIPE).read_text()
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


def write_model(path: Path, model: nn.Module) -> None:
    """Write the weights of a model as safetensors."""
    atomic_write(path, save(contiguous(model.state_dict())))


def write_metrics(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, one line of JSON for each epoch."""
    atomic_write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Write a small JSON file for people and programs."""
    atomic_write(path, (json.dumps(fields, indent=2) + "\n").encode())


def _read_protection(path: Path) -> Protection:
    try:
        fields = json.loads(path.read_text())
        protection_id = bytes.fromhex(fields["protection_id"])
        protection = Protection(protection_id, fields["key_id"], fields["key_name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise MalformedRun(f"{path} is damaged") from None
    if len(protection_id) != PROTECTION_ID_BYTES:
        raise MalformedRun(f"{path} is damaged")
    return protection
