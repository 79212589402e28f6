"""Score what is sent in to the challenge: masks of the test images, and what made them.

An entry is a folder with `entry.json` and `masks/0000.png` …, one PNG for each test
image in the order of its list. Nothing of it is run. docs/challenge.md.
"""

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from mlguard.audit.findings import (
    image_draws,
    interval_of,
    stolen_value,
    stolen_value_of,
)
from mlguard.canonical import canonical
from mlguard.data import LabelledSet
from mlguard.files import atomic_write, read_bounded, sha256_of
from mlguard.tasks import Counts, Task

RULES = "challenge.json"
BOARD = "leaderboard.json"
ENTRY = "entry.json"
MASKS = "masks"
MAX_JSON = 1 << 24  # bytes
MAX_MASK = 1 << 22  # bytes of one PNG
NAME = re.compile(r"[\w .,;:()+/'-]{1,80}")


class Refused(Exception):
    """What is wrong with a folder or an entry, in words."""


def checked(entry: object, rules: dict) -> dict:
    """The fields of an entry, and no others."""
    kinds = {"track": str, "name": str, "by": str, "labels": int, "seconds": int}
    kinds["public_weights"] = bool
    if not isinstance(entry, dict) or set(entry) != set(kinds):
        raise Refused(f"{ENTRY} has other fields than {', '.join(sorted(kinds))}")
    for name, kind in kinds.items():
        if type(entry[name]) is not kind:
            raise Refused(f"{ENTRY}: {name} is no {kind.__name__}")
    if entry["track"] not in rules["tracks"]:
        raise Refused(f"{ENTRY}: no track {entry['track']!r}")
    if entry["labels"] not in rules["labels"]:
        raise Refused(f"{ENTRY}: labels is none of {rules['labels']}")
    for name in ("name", "by"):
        if not NAME.fullmatch(entry[name]):
            raise Refused(f"{ENTRY}: {name} is not a short line of plain letters")
    return entry


def counts_of(folder: Path, test: LabelledSet) -> Counts:
    counts = []
    for index in range(len(test)):
        _, truth = test[index]
        answer = mask_of(folder / f"{index:04}.png", tuple(truth.shape))
        if answer.max() >= test.task.classes:
            raise Refused(f"{index:04}.png: class {answer.max()} is none of the task's")
        counts.append(test.task.count(answer[None], truth[None].numpy()))
    return np.concatenate(counts)


def mask_of(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The classes of one PNG: grey or palette, of the size of the test images."""
    if not path.is_file() or path.is_symlink():
        raise Refused(f"{path.name}: expected a PNG file for every test image")
    content = io.BytesIO(read_bounded(path, MAX_MASK))
    try:
        with Image.open(content, formats=["PNG"]) as png:
            if png.mode not in ("L", "P") or png.size != shape[::-1]:
                raise Refused(
                    f"{path.name}: expected grey or palette, {shape[1]}×{shape[0]}; "
                    f"got {png.mode}, {png.size[0]}×{png.size[1]}"
                )
            return np.asarray(png, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Refused(f"{path.name}: not a readable PNG") from None


def worth(counts: Counts, rules: dict, entry: dict, task: Task) -> dict[str, object]:
    """Score, and what of it was stolen, with intervals over the images."""
    track = rules["tracks"][entry["track"]]
    draws = image_draws(len(counts), seed=0)
    own = task.redrawn_scores(counts, draws)
    correct = task.redrawn_scores(np.array(track["per_image"]), draws)
    trained = rules["controls"].get(str(entry["labels"]), {}).values()
    parts = [np.array(one["per_image"]) for one in trained]
    if entry["labels"] and not parts:
        raise Refused(
            f"no control with {entry['labels']} labels yet: run `challenge.py controls`"
        )
    control = max((task.score_of(one) for one in parts), default=track["floor"])
    redrawn = [task.redrawn_scores(one, draws) for one in parts]
    redrawn = redrawn or [task.redrawn_floors(counts, draws)]
    value = task.score_of(counts)
    stolen = stolen_value_of(value, control, track["correct"])
    values = stolen_value(own, np.max(redrawn, axis=0), correct)
    ends = None if np.isnan(values).all() else interval_of(values)
    return {
        "score": value,
        "control": control,
        "stolen_value": stolen,
        "interval": None if ends is None else [ends.low, ends.high],
        "counts": stolen is not None
        and stolen >= rules["counts_from"]
        and ends is not None
        and ends.low > 0,
    }


def sorted_sha256(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.png"))
    hashes = {name: sha256_of(folder / name) for name in names}
    return hashlib.sha256(canonical(hashes)).hexdigest()


def read(path: Path) -> dict:
    try:
        return json.loads(read_bounded(path, MAX_JSON))
    except (OSError, ValueError):
        raise Refused(f"{path} is missing or not JSON") from None


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, (json.dumps(content) + "\n").encode())
