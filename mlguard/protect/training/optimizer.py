"""The optimizer, and its learning rate as a function of the step.

Resuming therefore needs no state of a schedule.
"""

import math

from torch import nn, optim

from mlguard import recipe

RESNET = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
ENCODER_PREFIXES = ("features.", "backbone.", *RESNET)
WARMUP_SHARE = 0.1  # of all steps, for one_cycle
WARMUP_START = 0.1  # of the learning rate, for one_cycle
POLY_POWER = 0.9  # Chen et al. 2017, arXiv:1706.05587, section 4.1


def new_optimizer(model: nn.Module, spec: recipe.Train) -> optim.Optimizer:
    """Return the recipe's optimizer, with the encoder's parameters in a separate group.

    Every group has a `rate_factor`, which multiplies its learning rate.
    """
    encoder: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # a frozen backbone
            continue
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


def learning_rate(spec: recipe.Train, step: int, *, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    Args:
        spec: The recipe's [train] section.
        step: The number of the step, from 0, over all epochs.
        steps_per_epoch: Steps in an epoch.

    Source: cosine_restarts is SGDR, Loshchilov and Hutter 2017, arXiv:1608.03983;
        poly is Chen et al. 2017, arXiv:1706.05587.
    """
    total = spec.epochs * steps_per_epoch
    match spec.schedule:
        case "constant":
            return spec.learning_rate
        case "poly":
            return _between(spec, (1 - step / total) ** POLY_POWER)
        case "cosine_restarts":
            cycle = spec.restart_epochs * steps_per_epoch
            return _between(spec, _cosine(step % cycle / cycle))
        case "one_cycle":
            warmup = max(1, round(WARMUP_SHARE * total))
            if step < warmup:
                rise = WARMUP_START + (1 - WARMUP_START) * step / warmup
                return spec.learning_rate * rise
            return _between(spec, _cosine((step - warmup) / max(1, total - warmup)))


def _between(spec: recipe.Train, share: float) -> float:
    """Interpolate from `min_learning_rate` at 0 to `learning_rate` at 1."""
    span = spec.learning_rate - spec.min_learning_rate
    return spec.min_learning_rate + span * share


def _cosine(progress: float) -> float:
    """Return half a cosine: 1 at progress 0, 0 at progress 1."""
    return (1 + math.cos(math.pi * progress)) / 2
