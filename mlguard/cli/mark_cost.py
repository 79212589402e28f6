"""Measure how much a customer's mark changes a model's answers, on one noise image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.errors import MissingRuntime
from mlguard.grants import Secrets
from mlguard.keys import ModelKey

SEED = 0  # seed of the noise: the same image every time


@dataclass(frozen=True)
class Answers:
    """A comparison of the owner's and the customer's answers.

    Attributes:
        agreement: Share of pixels, or of images, with the same class.
        difference: The largest difference of two scores.
        largest: The largest score.
    """

    agreement: float
    difference: float
    largest: float

    def __str__(self) -> str:
        return (
            f"on an image of noise, {self.agreement:.2%} of the classes are the same; "
            f"scores differ by at most {self.difference:.1e}, the largest is "
            f"{self.largest:.1f}"
        )


@dataclass(frozen=True)
class Ours:
    """The answers of the owner's own model.

    Attributes:
        noise: (1, channels, *size) uint8. The image of noise.
        scores: float. The model's scores of it.
        classes: The classes in its answer.
    """

    noise: NDArray[np.uint8]
    scores: NDArray[Any]
    classes: NDArray[Any]


def answers_of(bundle: Bundle2, key: ModelKey) -> Ours | None:
    """Run the owner's model; None if that takes more information.

    Args:
        bundle: The owner's own bundle.
        key: The key that opens it.
    """
    try:
        from mlguard.runtime import Session
    except MissingRuntime:  # an owner may issue on a machine without a runtime
        return None
    if bundle.manifest.backbone is not None:  # its other half is not at hand
        return None
    ours = Session(bundle, key)
    if ours.image is None or ours.task is None or ours.task.name == "detection":
        return None
    shape = (1, ours.image.channels, *ours.image.size)
    noise = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
    return Ours(noise, ours.logits(noise), ours.predict(noise))


def compare(ours: Ours, issued: Path, secrets: Secrets) -> Answers:
    """Run the customer's model on the same noise.

    Args:
        ours: The answers of the owner's model.
        issued: The customer's file.
        secrets: The secrets that open it.
    """
    from mlguard.runtime import Session

    theirs = Session(glimpse_bundle(issued), secrets)
    scores, classes = theirs.logits(ours.noise), theirs.predict(ours.noise)
    difference = float(np.abs(ours.scores - scores).max())
    agreement = float(np.mean(ours.classes == classes))
    return Answers(agreement, difference, float(np.abs(ours.scores).max()))
