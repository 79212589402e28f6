"""One stream of training batches that can start at any step."""

from collections.abc import Iterator

from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from mlguard import recipe
from mlguard.data import TrainingSet, epoch_positions


class Positions(Sampler[int]):
    """A sampler of all positions from one step on, shuffled in each epoch.

    An incomplete last batch of an epoch is dropped.
    """

    def __init__(
        self, length: int, spec: recipe.Train, *, seed: int, first_step: int
    ) -> None:
        self._length, self._spec, self._first_step = length, spec, first_step
        self._seed = seed
        self._per_epoch = length // spec.batch * spec.batch

    def __len__(self) -> int:
        """Return how many positions are left."""
        return self._spec.epochs * self._per_epoch - self._first_step * self._spec.batch

    def __iter__(self) -> Iterator[int]:
        """Yield the positions."""
        epoch, skip = divmod(self._first_step * self._spec.batch, self._per_epoch)
        while epoch < self._spec.epochs:
            order = epoch_positions(self._length, seed=self._seed, epoch=epoch)
            yield from order[skip : self._per_epoch]
            epoch, skip = epoch + 1, 0


def training_loader(
    data: TrainingSet, spec: recipe.Train, *, seed: int, first_step: int, workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return batches of augmented images and masks, from `first_step` on."""
    return DataLoader(
        data,
        batch_size=spec.batch,
        sampler=Positions(len(data), spec, seed=seed, first_step=first_step),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
