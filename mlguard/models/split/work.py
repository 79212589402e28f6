"""Compute the client's share of a split model's arithmetic."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.models.split.onnx_backbone import OnnxBackbone
from mlguard.models.split.public_graph import COLOURS, PublicGraph
from mlguard.models.split.sliced import Sliced

# Operators that multiply. A product sums over the last axis of its first input, a
# convolution over all of a filter.
CONVOLUTION, PRODUCTS = "Conv", ("MatMul", "Gemm")


@dataclass(frozen=True)
class Share:
    """Multiply-adds of the convolutions and linear layers, for one image.

    Attributes:
        client: Those of the private half.
        host: Those of the backbone.
    """

    client: int
    host: int

    @property
    def of_client(self) -> float:
        """The client's share of all, in [0, 1]."""
        return self.client / (self.client + self.host)


def share_of(model: Sliced, size: tuple[int, int]) -> Share:
    """Return what each half computes for an image.

    Args:
        model: A model on any device.
        size: Height and width of the image, in pixels.
    """
    device = next(model.parameters()).device
    pixels = torch.zeros(1, 3, *size, device=device)
    with torch.inference_mode():
        maps = model.backbone(pixels)
    if isinstance(model.backbone, OnnxBackbone):
        host = graph_multiply_adds(model.backbone.public, size)
    else:
        host = multiply_adds(model.backbone, pixels)
    return Share(client=multiply_adds(model.private, pixels, maps), host=host)


@torch.inference_mode()
def multiply_adds(module: nn.Module, *inputs: object) -> int:
    """Count the multiply-adds of a module's convolutions and linear layers."""
    counted = 0

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal counted
        weight = layer.weight
        if not isinstance(weight, Tensor):
            raise AssertionError("a convolution without weights")
        counted += output[0].numel() * weight[0].numel()

    kinds = (nn.Conv2d, nn.Linear)
    layers = [one for one in module.modules() if isinstance(one, kinds)]
    hooks = [one.register_forward_hook(count) for one in layers]
    training = module.training
    try:
        module.eval()(*inputs)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return counted


def graph_multiply_adds(public: PublicGraph, size: tuple[int, int]) -> int:
    """Count those of a graph's convolutions and matrix products, for one image.

    Args:
        public: The graph.
        size: Height and width of the image, in pixels.
    """
    shapes = _shapes(public, size)
    counted = 0
    for node in public.graph.graph.node:
        made = math.prod(shapes.get(node.output[0], (0,)))
        if node.op_type == CONVOLUTION:
            counted += made * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in PRODUCTS:
            counted += made * shapes[node.input[0]][-1]
    return counted


def _shapes(public: PublicGraph, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what the multiplying nodes read and make."""
    graph = public.graph.graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    asked = {
        name
        for node in graph.node
        if node.op_type in (CONVOLUTION, *PRODUCTS)
        for name in (node.output[0], *node.input[:2])
        if name not in shapes
    }
    images = np.zeros((1, COLOURS, *size), np.float32)
    found = public.of_shapes(list(asked)).run(images)
    return shapes | {
        name: tuple(map(int, one)) for name, one in zip(asked, found, strict=True)
    }
