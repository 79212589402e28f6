"""What a step is made of: the optimizer, the loss, and the seed of its randomness."""

import torch.nn.functional as F
from torch import Tensor, nn, optim

from mlguard import recipe
from mlguard.keys import TrainingSecret
from mlguard.models import logits_of

RESNET = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
ENCODER_PREFIXES = ("features.", "backbone.", *RESNET)


def new_optimizer(model: nn.Module, spec: recipe.Train) -> optim.Optimizer:
    """The recipe's optimizer, with the encoder's parameters in a group of their own.

    Every group carries `rate_factor`, what its learning rate is multiplied with.
    """
    encoder: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (encoder if name.startswith(ENCODER_PREFIXES) else rest).append(parameter)
    groups = [
        {"params": encoder, "rate_factor": spec.encoder_learning_rate},
        {"params": rest, "rate_factor": 1.0},
    ]
    groups = [group for group in groups if group["params"]]
    if spec.optimizer == "adamw":
        return optim.AdamW(
            groups,
            lr=spec.learning_rate,
            betas=(spec.momentum, 0.999),
            weight_decay=spec.weight_decay,
        )
    return optim.SGD(
        groups,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
    )


def cross_entropy_loss(
    output: Tensor | dict[str, Tensor], masks: Tensor, *, ignore_index: int, aux: float
) -> Tensor:
    """Mean cross-entropy over the scored pixels, or images; 0 when none is scored.

    Args:
        output: Logits, or torchvision's {"out": logits, "aux": logits}.
        masks: Class ids, or `ignore_index`.
        ignore_index: The value of pixels that are not scored.
        aux: Weight of the auxiliary head's loss, if the output has one.

    Shape:
        masks    (N, H, W) uint8, or (N,) int64 of a classification
        returns  () float32
    """
    loss = _cross_entropy(logits_of(output), masks, ignore_index)
    # With weight 0 too: data parallel training stops at parameters no loss reaches.
    if isinstance(output, dict) and "aux" in output:
        loss = loss + aux * _cross_entropy(output["aux"], masks, ignore_index)
    return loss


def step_seed(secret: TrainingSecret, step: int, process: int) -> int:
    """The seed of everything random in one step of one process, such as dropout."""
    return secret.word(f"step/{step}/{process}")


def _cross_entropy(logits: Tensor, masks: Tensor, ignore_index: int) -> Tensor:
    truth = masks.long()
    total = F.cross_entropy(
        logits.float(), truth, ignore_index=ignore_index, reduction="sum"
    )
    return total / (truth != ignore_index).sum().clamp(min=1)
