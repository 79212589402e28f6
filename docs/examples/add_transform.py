"""Add a transform: colours exchanged by the key in every position of a block.

    python docs/examples/add_transform.py

It shows what a transform has to say and what comes for free. To ship one, it also needs
a row in mlguard/transforms/methods.py, a section of docs/spec/transforms-v1.md and
vectors; and an audit, which will say that this one is weak.
"""

from math import factorial, log2
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.transforms.base import DerivedTransform
from mlguard.transforms.choice import permutation

COLOURS = 3


class ColourExchange(DerivedTransform):
    """Put the three colours of each position of a block in an order of its own."""

    name = "colours"

    def __init__(self, block_size: int, order: NDArray[np.intp]) -> None:
        super().__init__(block_size)
        self.order = order  # output value i of a block is input value order[i]

    @classmethod
    def derive(cls, subkeys: ModelSubkeys, block_size: int) -> Self:
        """Take one permutation of three from a subkey of its own for each position."""
        orders = [
            np.asarray(permutation(subkeys.derive(f"colours/{position}"), COLOURS))
            + COLOURS * position
            for position in range(block_size**2)
        ]
        return cls(block_size, np.concatenate(orders))

    @staticmethod
    def key_space(block_size: int) -> float:
        """Each position has 3! orders."""
        return block_size**2 * log2(factorial(COLOURS))

    @property
    def key_space_bits(self) -> float:
        """The same for every key."""
        return self.key_space(self.block_size)

    def slots(self) -> dict[str, NDArray[Any]]:
        """The order, for a preprocessing graph: key material."""
        return {"colours.order": self.order}

    def transform_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Exchange. Shape: (…, L) to (…, L)."""
        return blocks[..., self.order]

    def restore_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Exchange back."""
        return blocks[..., np.argsort(self.order)]


subkeys = ModelKey.generate().for_model(bytes(16))
transform = ColourExchange.derive(subkeys, 4)
images = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 48), dtype=np.uint8)
shown = transform.apply(images)
assert (transform.inverse().apply(shown) == images).all()
assert (np.rint(shown * 255) != images).any()
print(
    f"{transform.key_space_bits:.1f} bits at M=4; {ColourExchange.key_space(2):.1f}, 2"
)
print("every pixel keeps its brightness, so do not expect it to hide much")
