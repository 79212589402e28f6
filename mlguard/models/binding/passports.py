"""Which batch norms of a model can get scale and bias from a key, and prepare them."""

import torch
from torch import nn

from mlguard.errors import BindingError
from mlguard.models.binding.batch_norm import convolution_before
from mlguard.models.binding.traced import trace
from mlguard.transforms import KeyedNorm, TransformSet


def keyed_norms(model: nn.Module) -> tuple[KeyedNorm, ...]:
    """Return every convolution that only a batch norm reads, in the order they run.

    Raises:
        BindingError: There is none, or the model cannot be traced.
    """
    traced = trace(model)
    found = []
    for node in traced.nodes():
        norm = traced.module(node)
        if type(norm) is not nn.BatchNorm2d or not norm.affine:
            continue
        before = convolution_before(traced, node)
        layer = None if before is None else traced.module(before)
        if before is not None and type(layer) is nn.Conv2d:
            length = layer.weight[0].numel()
            found.append(KeyedNorm(str(before.target), str(node.target), length))
    if not found:
        raise BindingError(
            "the model has no convolution with a batch norm after it, so a passport "
            "has nothing to act on",
            hint="choose an architecture with batch norms, or another method",
        )
    return tuple(found)


@torch.no_grad()
def leave_norms_to(model: nn.Module, transforms: TransformSet) -> nn.Module:
    """Take scale and bias from the batch norms that have a passport, in place.

    They become 1 and 0 and are not learned: without the key they are missing.

    Returns:
        The model.
    """
    for one in transforms.passports:
        norm = model.get_submodule(one.where.norm)
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight.fill_(1).requires_grad_(False)
        norm.bias.zero_().requires_grad_(False)
    return model
