"""The setup of a run before its first step: recipe, protection, provenance."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlguard.errors import MalformedRun, RecipeError, WrongKey
from mlguard.files import atomic_write, read_bounded
from mlguard.keys import PROTECTION_ID_BYTES, ModelKey, ModelSubkeys
from mlguard.protect.run_folder.names import (
    MAX_JSON_BYTES,
    PROTECTION,
    PROVENANCE,
    RECIPE,
)
from mlguard.protect.run_folder.weights import PRIVATE
from mlguard.recipe import MAX_RECIPE_BYTES, Recipe, dump_recipe, parse_recipe

T = TypeVar("T")
OWN = """\
# The model of this run was made by {}, a function of its owner's.
# model.name, which a recipe must have, names another architecture: it was not used.

"""


@dataclass(frozen=True)
class Protection:
    """Which key a model needs. All of it is public.

    Attributes:
        protection_id: 16 random bytes, made when protection started.
        key_id: The public name of the key.
        key_name: Its name in the owner's keystore.
    """

    protection_id: bytes
    key_id: str
    key_name: str

    def subkeys(self, key: ModelKey) -> ModelSubkeys:
        """Return the subkeys of this model.

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
class Setup:
    """The setup of a run, finished or not.

    Attributes:
        recipe: The resolved recipe.
        protection: Which key the model needs; None for a plain run.
        provenance: Where the data and the model come from.
        digests: SHA-256 of each file read, by its name, in hex.
    """

    recipe: Recipe
    protection: Protection | None
    provenance: dict[str, Any]
    digests: dict[str, str] = field(default_factory=dict)


def read_setup(path: Path) -> Setup:
    """Read the setup of a run folder, each file once.

    Raises:
        MalformedRun: A file is missing or damaged.
    """
    digests: dict[str, str] = {}

    def read(name: str, limit: int) -> bytes:
        data = read_bounded(path / name, limit)
        digests[name] = hashlib.sha256(data).hexdigest()
        return data

    try:
        text = read(RECIPE, MAX_RECIPE_BYTES).decode()
        recipe = parse_recipe(text, name=str(path / RECIPE))
    except (OSError, UnicodeDecodeError, RecipeError) as error:
        raise MalformedRun(f"{path} is not a run folder: {error}") from None
    protection = None
    if os.path.lexists(path / PROTECTION):
        protection = _parsed(_protection, read, path / PROTECTION)
    provenance = _parsed(_provenance, read, path / PROVENANCE)
    return Setup(recipe, protection, provenance, digests)


def write_setup(
    path: Path,
    recipe: Recipe,
    protection: Protection | None,
    *,
    built_by: object = None,
) -> None:
    """Write recipe and protection, before the first step.

    Args:
        path: The run folder.
        recipe: The resolved recipe.
        protection: Which key the model needs; None for a plain run.
        built_by: The name of the owner's function that makes the model, if one does.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    if protection is not None:
        text = protection_text(protection)
        atomic_write(path / PROTECTION, text.encode(), mode=PRIVATE)
    text = recipe_file(recipe, built_by)
    atomic_write(path / RECIPE, text.encode(), mode=PRIVATE)


def write_metrics(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, one line of JSON for each epoch."""
    atomic_write(
        path, "".join(json.dumps(line) + "\n" for line in lines).encode(), mode=PRIVATE
    )


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Write a small JSON file for people and programs."""
    atomic_write(path, json_text(fields).encode(), mode=PRIVATE)


def json_text(fields: dict[str, Any]) -> str:
    """Return the text of a small JSON file for people and programs."""
    return json.dumps(fields, indent=2) + "\n"


def recipe_file(recipe: Recipe, built_by: object) -> str:
    """Return the contents of `recipe.toml`.

    The recipe of an owner's `build` has the name of an architecture too, which was not
    trained; the file says so to whoever reads it.
    """
    head = "" if built_by is None else OWN.format(ascii(built_by))
    return head + dump_recipe(recipe)


def protection_text(protection: Protection) -> str:
    """Return the contents of `protection.json`."""
    return json_text(
        {
            "protection_id": protection.protection_id.hex(),
            "key_id": protection.key_id,
            "key_name": protection.key_name,
        }
    )


def _parsed(
    parse: Callable[[Any], T | None], read: Callable[[str, int], bytes], file: Path
) -> T:
    """Return the contents of a small JSON file, or refuse it."""
    try:
        found = parse(json.loads(read(file.name, MAX_JSON_BYTES).decode()))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        found = None
    if found is None:
        raise MalformedRun(f"{file} is missing or damaged")
    return found


def _protection(fields: Any) -> Protection | None:
    protection_id = bytes.fromhex(fields["protection_id"])
    key_id, key_name = fields["key_id"], fields["key_name"]
    texts = isinstance(key_id, str) and isinstance(key_name, str)
    if len(protection_id) != PROTECTION_ID_BYTES or not texts:
        return None
    return Protection(protection_id, key_id, key_name)


def _provenance(fields: Any) -> dict[str, Any] | None:
    if isinstance(fields["data"], dict) and isinstance(fields["resumed"], list):
        return dict(fields)
    return None
