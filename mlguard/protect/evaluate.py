"""Count what a model gets right, under several conditions at once.

Images are read once and shown to the model under every condition: as the key makes
them, as they are, as a wrong key makes them. What they have in common, the model up to
the first feature map that a key changes, is computed once. Knows nothing of what a
condition means.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mlguard.data import LabelledSet, Part
from mlguard.models import Condition, Normalization, Output, SharedRuns, logits_of
from mlguard.tasks import Counts

Runs = Callable[[Tensor, Condition], Output]  # images and what is done to them


def evaluate(
    model: nn.Module,
    dataset: LabelledSet | Part,
    conditions: Mapping[str, Condition],
    *,
    normalization: Normalization,
    device: torch.device,
    batch: int,
    progress: Callable[[int, int], None] | None = None,
    shared: Runs | None = None,
) -> dict[str, Counts]:
    """Score a model on a data set under every condition.

    Args:
        model: In eval mode, on `device`.
        dataset: Images with masks.
        conditions: What is done to images and feature maps, by name.
        normalization: The model's mean and std.
        device: Where to compute.
        batch: Images at a time.
        progress: Called with (predictions done, all predictions).
        shared: What runs the model under the same conditions; None makes it.

    Returns:
        For each condition the counts of the data's task, one row an image.
    """
    found: dict[str, list[Counts]] = {name: [] for name in conditions}
    shared = shared or SharedRuns(model, conditions.values(), normalization)
    done, total = 0, len(dataset) * len(conditions)
    for images, masks in batches(dataset, batch):
        on_device = images.to(device)
        for name, condition in conditions.items():
            predicted = _classes(shared, on_device, condition)
            found[name].append(
                dataset.task.count(predicted.cpu().numpy(), masks.numpy())
            )
            done += len(images)
            if progress is not None:
                progress(done, total)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def predict_classes(
    model: nn.Module, images: Tensor, condition: Condition, normalization: Normalization
) -> Tensor:
    """Give every pixel a class, or every image if the model classifies.

    Shape:
        images   (N, 3, H, W) uint8, on the model's device
        returns  (N, H, W) uint8, or (N,) int64
    """
    return _classes(SharedRuns(model, [condition], normalization), images, condition)


@torch.inference_mode()
def _classes(shared: Runs, images: Tensor, condition: Condition) -> Tensor:
    classes = logits_of(shared(images, condition)).argmax(1)
    return classes.to(torch.uint8) if classes.ndim > 1 else classes


def batches(
    dataset: Dataset[tuple[Tensor, Tensor]], batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and masks in their order, the last batch as short as it is."""
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(dataset, batch_size=batch)
    yield from loader
