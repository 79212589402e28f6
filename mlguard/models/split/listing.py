"""Which maps a backbone has that it could send: what `model.maps` can name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mlguard import recipe
from mlguard.errors import RecipeError
from mlguard.models.split.backbones import (
    ODD,
    PROBED,
    MapFacts,
    Shape,
    facts_of,
    shape_of,
    whole_encoder,
)
from mlguard.models.split.onnx_backbone import COLOURS, NUMBERS, PublicGraph

Shapes = dict[str, Shape]


def maps_of(spec: recipe.Model) -> list[MapFacts]:
    """Return every map that a recipe's backbone could send, in the encoder's order.

    Args:
        spec: The recipe's [model] section, with a backbone.

    Raises:
        RecipeError: There is no such encoder, or it does not run on images of any size.
        ModelFileError: It is an ONNX file that cannot be read.
    """
    if spec.backbone is None:
        raise AssertionError("the recipe was not checked")
    shapes = _of_file if spec.backbone_is_file else _of_encoder
    square, odd = shapes(spec.backbone, [(PROBED, PROBED), ODD])
    return list(_fitting(spec.backbone, square, odd))


def _fitting(
    encoder: str, square: Mapping[str, Shape], odd: Mapping[str, Shape]
) -> Iterator[MapFacts]:
    for name, shape in square.items():
        try:
            yield from facts_of(encoder, [name], [shape], [odd[name]])
        except RecipeError:
            continue


@torch.inference_mode()
def _of_encoder(name: str, sizes: Sequence[tuple[int, int]]) -> list[Shapes]:
    encoder = whole_encoder(name).eval()
    found: list[Shapes] = []

    def noting(layer: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: object, output: object) -> None:
            found[-1][layer] = shape_of(output)

        return note

    for layer, module in encoder.named_modules():
        if layer:
            module.register_forward_hook(noting(layer))
    for sides in sizes:
        found.append({})
        encoder(torch.zeros(1, COLOURS, *sides))
    return found


def _of_file(path: str, sizes: Sequence[tuple[int, int]]) -> list[Shapes]:
    graph = PublicGraph.read(Path(path))
    names = [name for name, kind in graph.kinds.items() if kind in NUMBERS]
    images = (np.zeros((1, COLOURS, *sides), np.float32) for sides in sizes)
    return [
        dict(zip(names, map(np.shape, graph.run(one, only=names)), strict=True))
        for one in images
    ]
