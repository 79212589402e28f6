"""Key slots inside the model's graph, where feature maps are permuted.

The model is exported with the permutations as inputs, which become key slots
afterwards. So the export never sees a key, and no constant can be folded from one.
docs/spec/bundle-v1.md, section 4.
"""

from collections.abc import Callable, Sequence

import onnx
import torch
from torch import Tensor, nn

from mlguard.bundle import FeatureMapFacts
from mlguard.bundle.preprocess_graph import empty_slot
from mlguard.models import logits_of
from mlguard.models.conditions import changed_features
from mlguard.transforms.channels import order_slot, signs_slot


class WithSlots(nn.Module):
    """A model whose only output is its logits, and whose permutations are inputs."""

    def __init__(
        self, model: nn.Module, feature_maps: Sequence[FeatureMapFacts]
    ) -> None:
        super().__init__()
        self.model = model
        self._feature_maps = tuple(feature_maps)

    def forward(self, pixels: Tensor, slots: list[Tensor]) -> Tensor:
        """Run the model; slots in the order of `example_slots`."""
        left = iter(slots)
        changes = {
            one.layer: _permute(next(left), next(left) if one.signs else None)
            for one in self._feature_maps
        }
        with changed_features(self.model, changes):
            return logits_of(self.model(pixels))


def example_slots(feature_maps: Sequence[FeatureMapFacts]) -> dict[str, Tensor]:
    """Return the identity for every slot, by slot name."""
    slots: dict[str, Tensor] = {}
    for one in feature_maps:
        slots[order_slot(one.layer)] = torch.arange(one.channels)
        if one.signs:
            slots[signs_slot(one.layer)] = torch.ones(one.channels, 1, 1)
    return slots


def empty_slots(graph: onnx.ModelProto, names: Sequence[str]) -> None:
    """Turn inputs of a graph into key slots: initializers without data."""
    inputs = {value.name: value for value in graph.graph.input}
    for name in names:
        tensor = inputs[name].type.tensor_type
        shape = [size.dim_value for size in tensor.shape.dim]
        graph.graph.initializer.append(empty_slot(name, tensor.elem_type, shape))
        graph.graph.input.remove(inputs[name])


def _permute(order: Tensor, signs: Tensor | None) -> Callable[[Tensor], Tensor]:
    def change(features: Tensor) -> Tensor:
        permuted = features.index_select(1, order)
        return permuted if signs is None else permuted * signs

    return change
