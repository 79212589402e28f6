"""Count what a model gets right, under several conditions at once.

Images are read once and shown to the model under every condition: as the key makes
them, as they are, as a wrong key makes them. Knows nothing of what a condition means.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mlguard import metrics
from mlguard.data import Part, SegmentationSet
from mlguard.models import Condition, Normalization, logits_of, output_of


def evaluate(
    model: nn.Module,
    dataset: SegmentationSet | Part,
    conditions: Mapping[str, Condition],
    *,
    normalization: Normalization,
    device: torch.device,
    batch: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Score a model on a data set under every condition.

    Args:
        model: In eval mode, on `device`.
        dataset: Images with masks.
        conditions: What is done to images and feature maps, by name.
        normalization: The model's mean and std.
        device: Where to compute.
        batch: Images at a time.
        progress: Called with (predictions done, all predictions).

    Returns:
        For each condition the counts that mlguard.metrics turns into mIoU, per image.

    Shape:
        returns  (images, classes, 3) int64: intersection, predicted, truth
    """
    found: dict[str, list[NDArray[np.int64]]] = {name: [] for name in conditions}
    done, total = 0, len(dataset) * len(conditions)
    for images, masks in batches(dataset, batch):
        on_device = images.to(device)
        for name, condition in conditions.items():
            predicted = predict_masks(model, on_device, condition, normalization)
            found[name].append(count_pixels(predicted, masks, dataset))
            done += len(images)
            if progress is not None:
                progress(done, total)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def count_pixels(
    predicted: Tensor, masks: Tensor, dataset: SegmentationSet | Part
) -> NDArray[np.int64]:
    """Count what a batch of predictions gets right, per image and class.

    Shape:
        predicted  (N, H, W) uint8, on any device
        masks      (N, H, W) uint8, on the CPU
        returns    (N, classes, 3) int64: intersection, predicted, truth
    """
    confusions = metrics.confusion(
        predicted.cpu().numpy(),
        masks.numpy(),
        classes=dataset.classes,
        ignore_index=dataset.ignore_index,
    )
    return metrics.counts(confusions)


@torch.inference_mode()
def predict_masks(
    model: nn.Module, images: Tensor, condition: Condition, normalization: Normalization
) -> Tensor:
    """Give every pixel a class.

    Shape:
        images   (N, 3, H, W) uint8, on the model's device
        returns  (N, H, W) uint8
    """
    output = output_of(model, images, condition, normalization)
    return logits_of(output).argmax(1).to(torch.uint8)


def batches(
    dataset: Dataset[tuple[Tensor, Tensor]], batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and masks in their order, the last batch as short as it is."""
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(dataset, batch_size=batch)
    yield from loader
