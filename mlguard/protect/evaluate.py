"""Count a model's correct answers, under several conditions at once.

Images are read once and given to the model under every condition: transformed with the
key, plain, or transformed with a wrong key. The module does not know what a condition
means.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mlguard.data import LabelledSet, Part
from mlguard.models import Condition, Normalization, Output, logits_of, output_of
from mlguard.tasks import Counts

Runs = Callable[
    [Tensor, Condition], Output
]  # images and feature maps before the model sees them


def evaluate(
    model: nn.Module,
    dataset: LabelledSet | Part,
    conditions: Mapping[str, Condition],
    *,
    normalization: Normalization,
    device: torch.device,
    batch: int,
    progress: Callable[[int, int], None] | None = None,
    run: Runs | None = None,
    at_once: int = 1,
) -> dict[str, Counts]:
    """Score a model on a data set under every condition.

    Args:
        model: In eval mode, on `device`.
        dataset: Images with masks.
        conditions: The conditions by name.
        normalization: The model's mean and std.
        device: The device to compute on.
        batch: Images at a time.
        progress: Called with (predictions done, all predictions).
        run: A function that runs the model, if it is not a torch model.
        at_once: Conditions that are run at the same time; more than 1 only for a
            function that several threads may call.

    Returns:
        For each condition, the counts of the data's task, one row per image.
    """
    found: dict[str, list[Counts]] = {name: [] for name in conditions}
    run = run or partial(output_of, model, normalization=normalization)
    done, total = 0, len(dataset) * len(conditions)
    with ThreadPoolExecutor(at_once) as threads:
        for images, masks in batches(dataset, batch):
            count = partial(_count, run, conditions, images.to(device), masks, dataset)
            counted = threads.map(count, found) if at_once > 1 else map(count, found)
            for name, counts in zip(found, counted, strict=True):
                found[name].append(counts)
                done += len(images)
                if progress is not None:
                    progress(done, total)
    return {name: np.concatenate(parts) for name, parts in found.items()}


@torch.inference_mode()
def _count(
    run: Runs,
    conditions: Mapping[str, Condition],
    images: Tensor,
    masks: Tensor,
    dataset: LabelledSet | Part,
    name: str,
) -> Counts:
    predicted = _classes(run(images, conditions[name]))
    return dataset.task.count(predicted.cpu().numpy(), masks.numpy())


@torch.inference_mode()
def predict_classes(
    model: nn.Module, images: Tensor, condition: Condition, normalization: Normalization
) -> Tensor:
    """Return a class for every pixel, or for every image if the model classifies.

    Shape:
        images   (N, 3, H, W) uint8, on the model's device
        returns  (N, H, W) uint8, or (N,) int64
    """
    return _classes(output_of(model, images, condition, normalization))


def _classes(output: Output) -> Tensor:
    logits = logits_of(output)
    if logits.ndim == 2:
        return logits.argmax(1)
    if logits.device.type == "cpu" and logits.is_contiguous():
        # Planes of classes, as onnxruntime gives them: numpy takes a tenth of the time.
        return torch.from_numpy(logits.numpy().argmax(1).astype(np.uint8))
    return logits.argmax(1).to(torch.uint8)


def batches(
    dataset: Dataset[tuple[Tensor, Tensor]], batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and masks in their order; the last batch may be short."""
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(dataset, batch_size=batch)
    yield from loader
