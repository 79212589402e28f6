"""Score the model on the validation images after an epoch."""

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Subset

from mlguard.data import LabelledSet
from mlguard.models import Condition, Normalization, logits_of, output_of
from mlguard.protect.evaluate import batches
from mlguard.protect.training.loss import cross_entropy_loss
from mlguard.tasks import Task


def validate(
    model: nn.Module,
    dataset: LabelledSet,
    *,
    condition: Condition,
    normalization: Normalization,
    accelerator: Accelerator,
    batch: int,
) -> dict[str, float]:
    """Return loss and score over all validation images, shared among the processes.

    The model is left in train mode.

    Returns:
        validation_loss, the mean of the batches' losses, each weighed by its images,
        and the score in [0, 1] under its name: validation_miou, or validation_accuracy.
        The loss of a batch of masks is the mean over its scored pixels, so it depends
        slightly on how images are batched.
    """
    model.eval()
    task = dataset.task
    sums = torch.zeros(task.classes * 3 + 2, dtype=torch.float64)
    own = range(accelerator.process_index, len(dataset), accelerator.num_processes)
    for images, masks in batches(Subset(dataset, own), batch):
        with torch.inference_mode():
            logits = logits_of(
                output_of(
                    model, images.to(accelerator.device), condition, normalization
                )
            )
            on_device = masks.to(accelerator.device)
            loss = cross_entropy_loss(
                logits, on_device, ignore_index=task.ignore_index, aux=0.0
            )
        counted = task.count(logits.argmax(1).cpu().numpy(), masks.numpy())
        sums[:-2] += torch.from_numpy(task.total(counted).ravel()).to(torch.float64)
        sums[-2] += float(loss) * len(images)
        sums[-1] += len(images)
    model.train()
    sums = accelerator.reduce(sums.to(accelerator.device), reduction="sum").cpu()
    totals = sums[:-2].reshape(-1, 3).numpy().astype(np.int64)
    return {
        "validation_loss": float(sums[-2] / sums[-1]),
        validation_score_name(task): float(task.score(totals)),
    }


def validation_score_name(task: Task) -> str:
    """Return the name of the score in metrics.jsonl."""
    return f"validation_{task.score_name.lower()}"
