"""How a model in two halves is trained: its backbone frozen, or as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mlguard import recipe
from mlguard.models.split import GIGABYTE, Sliced


@contextmanager
def in_halves(model: nn.Module, spec: recipe.Train, *, split: bool) -> Iterator[int]:
    """Freeze or thaw a model's backbone, if it has one, while the block trains it.

    A frozen one says the same of the same image, so each is shown to it once. A thawed
    one has nothing to remember, and sees a new crop every epoch.

    Args:
        model: Any.
        spec: The recipe's [train] section.
        split: Whether the backbone is to stay what it is.

    Returns:
        How many crops of each image there are in the whole run; 0: no end of them.
    """
    if not isinstance(model, Sliced) or (split and not spec.views):
        yield 0
    elif split:
        with model.remembering(int(spec.cache_gb * GIGABYTE)):
            yield spec.views
    else:
        model.thaw()
        yield 0
