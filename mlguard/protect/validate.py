"""Score the model on the validation images after an epoch."""

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Subset

from mlguard import metrics
from mlguard.data import SegmentationSet
from mlguard.models import Condition, Normalization, logits_of, output_of
from mlguard.protect.evaluate import batches, count_pixels
from mlguard.protect.learn import segmentation_loss


def validate(
    model: nn.Module,
    dataset: SegmentationSet,
    *,
    condition: Condition,
    normalization: Normalization,
    accelerator: Accelerator,
    batch: int,
) -> dict[str, float]:
    """The loss and the mIoU over all validation images, shared among the processes.

    The model is left in train mode.

    Returns:
        validation_loss, the mean over images, and validation_miou in [0, 1].
    """
    model.eval()
    sums = torch.zeros(dataset.classes * 3 + 2, dtype=torch.float64)
    own = range(accelerator.process_index, len(dataset), accelerator.num_processes)
    for images, masks in batches(Subset(dataset, own), batch):
        with torch.inference_mode():
            logits = logits_of(
                output_of(
                    model, images.to(accelerator.device), condition, normalization
                )
            )
            on_device = masks.to(accelerator.device)
            loss = segmentation_loss(
                logits, on_device, ignore_index=dataset.ignore_index, aux=0.0
            )
        predicted = logits.argmax(1).to(torch.uint8)
        counted = count_pixels(predicted, masks, dataset)
        sums[:-2] += torch.from_numpy(counted.sum(0).ravel()).to(torch.float64)
        sums[-2] += float(loss) * len(images)
        sums[-1] += len(images)
    model.train()
    sums = accelerator.reduce(sums.to(accelerator.device), reduction="sum").cpu()
    totals = sums[:-2].reshape(-1, 3).numpy().astype(np.int64)
    return {
        "validation_loss": float(sums[-2] / sums[-1]),
        "validation_miou": float(metrics.mean_iou(totals)),
    }
