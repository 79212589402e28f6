"""The halves of a model whose public half is an ONNX file.

The host gets the file's own graph up to the maps. torch never sees that graph, so the
private half is exported beside maps of the same sizes.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn

from mlguard.foreign import clear_of, prefix_names
from mlguard.models.split import MapFacts, OnnxBackbone


class BesideBlanks(nn.Module):
    """A private half, and maps of the right sizes that mean nothing.

    Args:
        private: The private half, from pixels and maps to logits.
        maps: The facts of its maps, from fine to coarse.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  the private half's logits, of these maps
    """

    def __init__(self, private: nn.Module, maps: Sequence[MapFacts]) -> None:
        super().__init__()
        self.private, self.maps = private, maps

    def forward(self, pixels: Tensor) -> Tensor:
        """Halve one colour of the image until it has a map's sides."""
        found, stride, left = [], 1, pixels[:, :1]
        for about in self.maps:
            while stride < about.stride:
                left, stride = F.max_pool2d(left, 1, stride=2), 2 * stride
            found.append(left.expand(-1, about.channels, -1, -1).half().float())
        logits: Tensor = self.private(pixels, found)
        return logits


def host_graph(backbone: OnnxBackbone) -> ModelProto:
    """Return the file's graph, its maps in half precision; no outputs are named yet."""
    host = ModelProto()
    host.CopyFrom(backbone.public.graph)
    prefix_names(host.graph, clear_of("public/", [one.name for one in backbone.maps]))
    computed = [one.name for one in host.graph.output]
    del host.graph.output[:]
    for about, name in zip(backbone.maps, computed, strict=True):
        cast = helper.make_node("Cast", [name], [about.name], to=TensorProto.FLOAT16)
        host.graph.node.append(cast)
    return host
