"""What must be known of a run before its first step: recipe, protection, provenance."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlguard.errors import MalformedRun, RecipeError, WrongKey
from mlguard.files import atomic_write, read_bounded
from mlguard.keys import PROTECTION_ID_BYTES, ModelKey, ModelSubkeys
from mlguard.protect.run_folder.names import (
    MAX_JSON_BYTES,
    PROTECTION,
    PROVENANCE,
    RECIPE,
)
from mlguard.recipe import MAX_RECIPE_BYTES, Recipe, dump_recipe, parse_recipe


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


def write_metrics(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, one line of JSON for each epoch."""
    atomic_write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Write a small JSON file for people and programs."""
    atomic_write(path, (json.dumps(fields, indent=2) + "\n").encode())


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
