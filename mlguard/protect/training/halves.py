"""Train a model in two halves: with its backbone frozen, or as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mlguard import recipe
from mlguard.models.split import GIGABYTE, Sliced


@contextmanager
def in_halves(model: nn.Module, spec: recipe.Train, *, split: bool) -> Iterator[int]:
    """Freeze or thaw a model's backbone, if it has one, while the block trains it.

    A frozen backbone always returns the same for the same image, so it sees each image
    once. A thawed one has nothing to remember, and sees a new crop every epoch.

    Args:
        model: Any model.
        spec: The recipe's [train] section.
        split: Whether the backbone must not change.

    Returns:
        The number of crops of each image in the whole run; 0 for no limit.
    """
    if not isinstance(model, Sliced) or (split and not spec.views):
        yield 0
    elif split:
        with model.remembering(int(spec.cache_gb * GIGABYTE)):
            yield spec.views
    else:
        model.thaw()
        yield 0
