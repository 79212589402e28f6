"""What an adversary has seen of the key's work."""

import numpy as np
from numpy.typing import NDArray

from mlguard.transforms import Compose, FormatPreserving, TransformSet


class Leaks:
    """What an adversary has of the key's work, and nothing more.

    Holds the correct transforms; gives only what a rung says.
    """

    def __init__(self, transforms: TransformSet) -> None:
        self._image = transforms.image

    def pair(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Rung T6: what the key makes of one of the adversary's images.

        Shape:
            image    (3, H, W) uint8
            returns  (3, H, W) float32 in [0, 1]
        """
        if self._image is None:
            raise ValueError("the key leaves images alone: there is no such pair")
        transformed: NDArray[np.float32] = self._image.apply(image[None])[0]
        return transformed

    def table(self) -> NDArray[np.int32] | None:
        """The encryption table of `ffx`, if the chain has one.

        The worst case, and the published one: arXiv:2107.09362 fixes the password.
        """
        chain = self._image
        stages = chain.transforms if isinstance(chain, Compose) else (chain,)
        tables = [
            stage.table for stage in stages if isinstance(stage, FormatPreserving)
        ]
        return tables[0] if tables else None
