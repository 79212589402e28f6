"""The secret that a run draws its initial weights, data order and crops from.

Under a model key it is derived from the key and from everything that decides the
result, so the same key, recipe and seed give the same run, and nothing more need be
kept. Without a key it is drawn from the operating system and lies in a file of the run
folder that only its owner can read: with it, a thief could draw the initial weights
again.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from mlguard.errors import MalformedRun
from mlguard.files import read_bounded, write_new
from mlguard.keys import KEY_BYTES, ModelKey, TrainingSecret
from mlguard.recipe import Recipe

FILE = "training.secret"  # hex and a newline
DIGEST = "training_digest"  # in provenance.json of a run that was begun under a key
DECIDES = ("data", "transform", "model", "train", "lock")  # sections of the recipe
IDLE = {
    "data": ("workers", "cache"),
    "train": ("checkpoint_s", "cache_gb"),
}  # do not affect the result


def decisive(recipe: Recipe) -> Recipe:
    """Return the recipe without the settings that do not affect the trained weights.

    They are the number of processes that make batches, whether images stay in memory
    and how often the state is saved.
    """
    changed = {}
    for section, names in IDLE.items():
        fields = getattr(recipe, section)
        default = {name: type(fields).model_fields[name].default for name in names}
        changed[section] = fields.model_copy(update=default)
    return recipe.model_copy(update=changed)


def training_digest(recipe: Recipe) -> bytes:
    """Return the SHA-256 of everything in a recipe that decides the trained weights.

    Defaults are left out, so that a new setting does not change older recipes.
    """
    fields = decisive(recipe).model_dump(
        mode="json", include=set(DECIDES), exclude_defaults=True
    )
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def begun_secret(
    path: Path, provenance: dict[str, Any], key: ModelKey | None
) -> TrainingSecret:
    """Return the secret of a run that was begun.

    Args:
        path: The run folder.
        provenance: The contents of its `provenance.json`.
        key: The model key, if there is one.

    Raises:
        MalformedRun: It was begun under a key and none is given; or its secret is
            missing or damaged; or an earlier version began it.
    """
    if (path / FILE).exists():
        return _read(path / FILE)
    try:
        digest = bytes.fromhex(str(provenance[DIGEST]))
    except (KeyError, ValueError):
        raise MalformedRun(
            f"{path} cannot be resumed: {FILE} is missing, and the order of its "
            "images depends on it",
            hint="begin again in another folder; version 0.1 drew from a public seed, "
            "so do not finish what it began",
        ) from None
    if key is None:
        raise MalformedRun(
            f"{path} was begun under a key",
            hint="go on with `mlguard protect --baseline --resume` and that key",
        )
    return key.for_training(digest)


def write_secret(path: Path, secret: TrainingSecret) -> None:
    """Write the secret of a run without a key, readable only by its owner.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    write_new(path / FILE, (secret.reveal().hex() + "\n").encode(), mode=0o600)


def _read(path: Path) -> TrainingSecret:
    try:
        text = read_bounded(path, 2 * KEY_BYTES + 2).decode("ascii").strip()
        return TrainingSecret(bytes.fromhex(text))
    except (OSError, ValueError):
        raise MalformedRun(
            f"{path} is damaged: expected {2 * KEY_BYTES} hexadecimal digits",
            hint="begin again in another folder",
        ) from None
