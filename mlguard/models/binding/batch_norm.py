"""Fold batch norms, so that a model ships without its running statistics.

Running statistics show a thief with the weights how feature maps look under the correct
key: with them, keys are found without a single label. Folding does not change what the
model computes.
"""

from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from mlguard.errors import BindingError
from mlguard.models.binding.pieces import ChannelScale, LiftedStem
from mlguard.models.binding.traced import Traced, trace


@torch.no_grad()
def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Replace every `nn.BatchNorm2d` by its computation in eval mode, in place.

    A norm that is the only reader of a convolution or a lifted stem is folded into its
    weights, and an `nn.Identity` remains. Any other becomes a `ChannelScale`. The
    result of one architecture always has the same parameters, whatever their values.

    Only these very classes are replaced: a subclass may do more than its base, such as
        a norm with an activation, so it is left unchanged (`norms_with_statistics`).

    Returns:
        The model.

    Raises:
        BindingError: The model cannot be traced, or a batch norm has no statistics.
    """
    traced = trace(model)
    for node in traced.nodes():
        norm = traced.module(node)
        if not _is_plain(norm):
            continue
        name, before = str(node.target), convolution_before(traced, node)
        if before is not None:
            _fold(traced.module(before), norm)
            model.set_submodule(name, nn.Identity())
        elif traced.runs_once(node):
            model.set_submodule(name, _scale_of(norm))
    for name, module in list(model.named_modules()):
        if _is_plain(module):  # never runs, or runs several times
            model.set_submodule(name, _scale_of(module))
    return model


def norms_with_statistics(model: nn.Module) -> dict[str, str]:
    """Return the names and kinds of the layers that keep running statistics."""
    return {
        name: type(layer).__name__
        for name, layer in model.named_modules()
        if isinstance(layer, _NormBase) and layer.track_running_stats
    }


def _is_plain(layer: nn.Module | None) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a layer is exactly a batch norm."""
    return type(layer) is nn.BatchNorm2d


def convolution_before(traced: Traced, node: fx.Node) -> fx.Node | None:
    """Return the convolution that a norm reads, or the lifted stem.

    None if something else reads it too, or one of the two runs several times.
    """
    before = node.args[0] if node.args else None
    if not isinstance(before, fx.Node):
        return None
    layer, alone = traced.module(before), traced.readers(before) == [node]
    once = traced.runs_once(node) and layer is not None and traced.runs_once(before)
    if not (alone and once and type(layer) in (nn.Conv2d, LiftedStem)):
        return None
    return before


def _fold(layer: nn.Module | None, norm: nn.BatchNorm2d) -> None:
    assert isinstance(layer, nn.Conv2d | LiftedStem)
    scale, offset = _line_of(norm)
    if isinstance(layer, LiftedStem):
        each = layer.ratio**2  # outputs of a block, one channel of windows for each
        scale, offset = scale.repeat_interleave(each), offset.repeat_interleave(each)
        _scale(layer.constant, scale)
        layer = layer.windows
    _scale(layer, scale)
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0, 0, 0]))
    layer.bias.copy_(layer.bias.double() * scale + offset)


def _scale(convolution: nn.Conv2d, scale: Tensor) -> None:
    weight = convolution.weight.double() * scale.view(-1, 1, 1, 1)
    convolution.weight.copy_(weight)


def _scale_of(norm: nn.BatchNorm2d) -> ChannelScale:
    scale, offset = _line_of(norm)
    layer = ChannelScale(norm.num_features).to(norm.running_var)
    layer.weight.copy_(scale)
    layer.bias.copy_(offset)
    return layer.train(norm.training)


def _line_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and offset, (C,) float64, of a batch norm in eval mode."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise BindingError(
            "a batch norm of the model has no running statistics: its result depends "
            "on the batch, so it cannot be folded"
        )
    scale = (variance.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.double()
    offset = -mean.double() * scale
    return scale, offset if norm.bias is None else offset + norm.bias.double()
