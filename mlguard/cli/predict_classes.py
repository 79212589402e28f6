"""Write two tables of answers, for a bundle that classifies.

predictions.csv    image, class, probability
predictions.json   the same with the five most probable classes of each image
"""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlguard.files import atomic_write

CSV, JSON = "predictions.csv", "predictions.json"
MOST = 5  # classes listed for each image
DECIMALS = 6
ESCAPED = "backslashreplace"  # replaces a name that is not UTF-8


@dataclass(frozen=True)
class Answer:
    """The most probable classes of one image, best first.

    Attributes:
        image: The path as given.
        classes: Each with its probability, in [0, 1].
    """

    image: str
    classes: tuple[tuple[str, float], ...]


def answer_of(
    image: str, logits: NDArray[np.float32], class_names: tuple[str, ...]
) -> Answer:
    """Return the answer from the logits of one image.

    Shape:
        logits  (classes,)
    """
    exponentials = np.exp((logits - logits.max()).astype(np.float64))
    shares = exponentials / exponentials.sum()
    best = np.argsort(-shares, kind="stable")[:MOST]
    pairs = ((class_names[number], float(shares[number])) for number in best)
    return Answer(image, tuple((name, round(share, DECIMALS)) for name, share in pairs))


def write_answers(folder: Path, answers: Iterable[Answer]) -> None:
    """Write both tables.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    listed = list(answers)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("image", "class", "probability"))
    rows.writerows((one.image, *one.classes[0]) for one in listed)
    entries = [
        {
            "image": one.image,
            "class": one.classes[0][0],
            "probabilities": [
                {"class": name, "probability": share} for name, share in one.classes
            ],
        }
        for one in listed
    ]
    atomic_write(folder / CSV, table.getvalue().encode(errors=ESCAPED))
    atomic_write(
        folder / JSON,
        (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode(
            errors=ESCAPED
        ),
    )
