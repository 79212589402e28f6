"""What an adversary has seen of the key's transforms."""

import numpy as np
from numpy.typing import NDArray

from mlguard.transforms import Compose, FormatPreserving, TransformSet


class Leaks:
    """What an adversary has of the key's transforms, and nothing more.

    It holds the correct transforms, and returns only what a rung allows.
    """

    def __init__(self, transforms: TransformSet) -> None:
        self._image = transforms.image

    def pair(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return one of the adversary's images, transformed with the key (rung T6).

        Shape:
            image    (3, H, W) uint8
            returns  (3, H, W) float32 in [0, 1]
        """
        if self._image is None:
            raise ValueError("the key does not act on images, so there is no such pair")
        transformed: NDArray[np.float32] = self._image.apply(image[None])[0]
        return transformed

    def table(self) -> NDArray[np.int32] | None:
        """Return the encryption table of `ffx`, if the chain has one.

        This is the worst case, and the published one: arXiv:2107.09362 fixes the
        password.
        """
        chain = self._image
        stages = chain.transforms if isinstance(chain, Compose) else (chain,)
        tables = [
            stage.table for stage in stages if isinstance(stage, FormatPreserving)
        ]
        return tables[0] if tables else None
