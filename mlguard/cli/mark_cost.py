"""How much a customer's mark changes what a model answers, on one image of noise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.errors import MissingRuntime
from mlguard.grants import Secrets
from mlguard.keys import ModelKey

SEED = 0  # of the noise: the same image every time


@dataclass(frozen=True)
class Answers:
    """The owner's answers beside the customer's.

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
            f"on an image of noise {self.agreement:.2%} of the classes are the same; "
            f"scores differ by at most {self.difference:.1e}, the largest is "
            f"{self.largest:.1f}"
        )


def compare(
    bundle: Bundle2, key: ModelKey, issued: Path, secrets: Secrets
) -> Answers | None:
    """Run both models; None where that cannot be done without knowing more.

    Args:
        bundle: The owner's own bundle.
        key: Opens it.
        issued: The customer's file.
        secrets: What opens that.
    """
    try:
        from mlguard.runtime import Session
    except MissingRuntime:  # an owner may issue where nothing runs
        return None
    ours = Session(bundle, key)
    if ours.image is None or ours.task is None or ours.task.name == "detection":
        return None
    shape = (1, ours.image.channels, *ours.image.size)
    noise = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
    theirs = Session(glimpse_bundle(issued), secrets)
    one, other = ours.logits(noise), theirs.logits(noise)
    same = ours.predict(noise) == theirs.predict(noise)
    difference = float(np.abs(one - other).max())
    return Answers(float(np.mean(same)), difference, float(np.abs(one).max()))
