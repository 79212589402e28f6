"""The loss of the task: cross-entropy over scored pixels or images."""

import torch.nn.functional as F
from torch import Tensor

from mlguard.models import logits_of


def cross_entropy_loss(
    output: Tensor | dict[str, Tensor], masks: Tensor, *, ignore_index: int, aux: float
) -> Tensor:
    """Return the mean cross-entropy over scored pixels, or images; 0 if none is scored.

    Args:
        output: Logits, or torchvision's {"out": logits, "aux": logits}.
        masks: Class ids, or `ignore_index`.
        ignore_index: The value of pixels that are not scored.
        aux: Weight of the auxiliary head's loss, if the output has one.

    Shape:
        masks    (N, H, W) uint8, or (N,) int64 for a classification
        returns  () float32
    """
    loss = _cross_entropy(logits_of(output), masks, ignore_index)
    # Even with weight 0: data parallel training fails at parameters no loss reaches.
    if isinstance(output, dict) and "aux" in output:
        loss = loss + aux * _cross_entropy(output["aux"], masks, ignore_index)
    return loss


def _cross_entropy(logits: Tensor, masks: Tensor, ignore_index: int) -> Tensor:
    truth = masks.long()
    total = F.cross_entropy(
        logits.float(), truth, ignore_index=ignore_index, reduction="sum"
    )
    return total / (truth != ignore_index).sum().clamp(min=1)
