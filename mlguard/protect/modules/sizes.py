"""Determine which sizes of images a model takes, by running it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlguard.protect.export import REFUSALS, cause_of

STEPS = (1, 2, 4, 8, 16, 32, 64, 128)  # pixels; the multiples tried for a side
SPATIAL = (2, 3)  # axes of an image or a volume after batch and channels


@dataclass(frozen=True)
class Sizes:
    """The sizes of images that a model takes.

    Attributes:
        multiple: The number of pixels that divides their sides; 0 if there is only one
            size.
        why: What the model said about another size; empty if it takes any.
    """

    multiple: int
    why: str = ""

    @property
    def free(self) -> bool:
        """Whether the model takes images of different sizes."""
        return self.multiple > 0


def is_image(tensor: Tensor) -> bool:
    """Whether a tensor can be images or volumes: (N, C, H, W) or (N, C, D, H, W)."""
    return tensor.is_floating_point() and tensor.dim() - 2 in SPATIAL


def find_sizes(run: Callable[[Tensor], object], example: Tensor) -> Sizes:
    """Determine which sizes a model takes, starting from one that it does.

    Args:
        run: A function that runs the model in eval mode.
        example: Images of a size that it takes, (N, C, …).

    Shape:
        example  (N, C, H, W) or (N, C, D, H, W)
    """
    why = ""
    for step in STEPS:
        if any(side % step for side in example.shape[2:]):
            break  # then no larger step divides them either
        try:
            for other in larger(example, step):
                run(other)
        except REFUSALS as refusal:
            why = why or cause_of(refusal)
            continue
        return Sizes(step, why)
    return Sizes(0, why)


def larger(example: Tensor, step: int) -> list[Tensor]:
    """Return somewhat larger images, each side by another number of steps."""
    found = []
    for first in (1, 2):
        sides = [
            side + step * (first + axis) for axis, side in enumerate(example.shape[2:])
        ]
        generator = torch.Generator().manual_seed(first)
        drawn = torch.rand((*example.shape[:2], *sides), generator=generator)
        found.append(drawn.to(example))
    return found
