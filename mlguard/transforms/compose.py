"""Apply several transforms, one after the other, to the same blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.rules import check_methods
from mlguard.transforms.base import Transform
from mlguard.transforms.lookups import Lookups


class Compose(Transform):
    """A transform that applies transforms in the order given.

    Args:
        transforms: At least one, all of one block size, each method at most once.

    Raises:
        ValueError: They cannot be combined. `np` and `ffx` work on 0 … 255 and cannot
            follow `ffx`, whose values are larger.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)
        names = [transform.name for transform in self.transforms]
        sizes = {transform.block_size for transform in self.transforms}
        if len(sizes) != 1:
            raise ValueError(f"expected one block size, got {sorted(sizes)}")
        check_methods(names)
        super().__init__(sizes.pop())
        self.name = "+".join(names)

    @property
    def key_space_bits(self) -> float:
        """Return the sum, since every transform has subkeys of its own."""
        return sum(transform.key_space_bits for transform in self.transforms)

    @property
    def scale(self) -> float:
        """The largest value any of the transforms gives."""
        return max(transform.scale for transform in self.transforms)

    def slots(self) -> dict[str, NDArray[Any]]:
        """Return the slots of all transforms, whose names differ."""
        return {
            name: tensor
            for transform in self.transforms
            for name, tensor in transform.slots().items()
        }

    def transform_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Apply the transforms, first to last."""
        for transform in self.transforms:
            blocks = transform.transform_blocks(blocks)
        return blocks

    def after(self, lookups: Lookups) -> Lookups | None:
        """Each after those before it."""
        found: Lookups | None = lookups
        for transform in self.transforms:
            found = transform.after(found) if found is not None else None
        return found

    def restore_blocks(self, blocks: NDArray[np.int32]) -> NDArray[np.int32]:
        """Undo the transforms, last to first."""
        for transform in reversed(self.transforms):
            blocks = transform.restore_blocks(blocks)
        return blocks

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"
