"""Track the form of a feature map, step by step through a graph.

A classifier takes the mean over all places before its linear layer; from there on, a
channel is one number and no longer a map.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import fx, nn

from mlguard.models.binding.traced import Traced

# (N, C, H, W), (N, C, 1, 1), or (N, C).
Form = Literal["map", "point", "vector"]

ONE_PLACE = (1, (1, 1), [1, 1])  # output sizes
FROM_CHANNELS = (1, -1)  # first and last axis


def form_after(traced: Traced, reader: fx.Node, form: Form) -> Form:
    """Return the form of a feature map after a step."""
    if averages(reader):
        return "point" if _argument(reader, 2, "keepdim", False) else "vector"
    if flattens(traced, reader):
        return "vector"
    return "point" if pools(traced, reader) else form


def averages(node: fx.Node) -> bool:
    """Whether a node takes the mean over all places of a feature map."""
    if node.target not in {"mean", torch.mean}:
        return False
    dims = _argument(node, 1, "dim", ())
    return isinstance(dims, list | tuple) and {d % 4 for d in dims} == {2, 3}


def pools(traced: Traced, node: fx.Node) -> bool:
    """Whether a node pools all places of a feature map into one."""
    layer = traced.module(node)
    if isinstance(layer, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        return layer.output_size in ONE_PLACE
    pooling = node.target in {F.adaptive_avg_pool2d, F.adaptive_max_pool2d}
    return pooling and _argument(node, 1, "output_size", None) in ONE_PLACE


def flattens(traced: Traced, node: fx.Node) -> bool:
    """Whether a node puts channels and places into one axis."""
    layer = traced.module(node)
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == FROM_CHANNELS
    start = _argument(node, 1, "start_dim", 0)
    end = _argument(node, 2, "end_dim", -1)
    return node.target in {"flatten", torch.flatten} and (start, end) == FROM_CHANNELS


def _argument(node: fx.Node, place: int, name: str, default: object) -> Any:
    """Return an argument of a call, given by its place or its name."""
    return (
        node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
    )
