"""Which maps a backbone has that it could send: what `model.maps` can name."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mlguard import recipe
from mlguard.errors import ProviderError, RecipeError
from mlguard.models.split.backbones import (
    PROBES,
    MapFacts,
    Shape,
    facts_of,
    refused,
    shape_of,
    whole_encoder,
)
from mlguard.models.split.onnx_backbone import NUMBERS, can_be_sent, probes
from mlguard.models.split.public_graph import COLOURS, PublicGraph

Shapes = dict[str, Shape]


def maps_of(spec: recipe.Model) -> list[MapFacts]:
    """Return every map that a recipe's backbone could send, in the encoder's order.

    Args:
        spec: The recipe's [model] section, with a backbone.

    Raises:
        RecipeError: There is no such encoder, or it has none.
        ModelFileError: It is an ONNX file that cannot be read.
    """
    if spec.backbone is None:
        raise AssertionError("the recipe was not checked")
    shapes = _of_file if spec.backbone_is_file else _of_encoder
    square, odd = shapes(spec.backbone)
    if not (found := list(_fitting(spec.backbone, square, odd))):
        raise refused(f"{spec.backbone} has no map that a host could send", "backbone")
    return found


def _fitting(
    encoder: str, square: Mapping[str, Shape], odd: Mapping[str, Shape]
) -> Iterator[MapFacts]:
    for name, shape in square.items():
        try:
            yield from facts_of(encoder, [name], [shape], [odd.get(name, ())])
        except RecipeError:
            continue


@torch.inference_mode()
def _of_encoder(name: str) -> list[Shapes]:
    encoder = whole_encoder(name).eval()
    found: list[Shapes] = []

    def noting(layer: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: object, output: object) -> None:
            found[-1][layer] = shape_of(output)

        return note

    for layer, module in encoder.named_modules():
        if layer:
            module.register_forward_hook(noting(layer))
    for count, sides in PROBES:
        found.append({})
        encoder(torch.zeros(count, COLOURS, *sides))
    return found


def _of_file(path: str) -> list[Shapes]:
    graph = PublicGraph.read(Path(path))
    kinds = graph.kinds
    names = [one for one in kinds if kinds[one] in NUMBERS and can_be_sent(one)]

    @cache
    def shapes_of_first(count: int) -> PublicGraph:
        return graph.of_shapes(names[:count])

    return [
        {
            name: tuple(map(int, shape))
            for name, shape in zip(
                names, _reached(shapes_of_first, len(names), images), strict=False
            )
        }
        for images in probes()
    ]


def _reached(
    first: Callable[[int], PublicGraph], most: int, images: NDArray[np.float32]
) -> list[NDArray[Any]]:
    """Compute as many outputs as can be computed, from the first one on.

    An encoder that was published with its head often fails there at other sizes.

    Args:
        first: Makes the graph of so many outputs.
        most: The number of all outputs.
        images: What the graph takes.
    """
    found: list[NDArray[Any]] = []
    trying, failing = most, most + 1
    while failing - len(found) > 1:
        try:
            found = first(trying).run(images)
        except ProviderError:
            failing = trying
        trying = (len(found) + failing) // 2
    return found
