"""A model cut where a key acts inside it: what no key changes is computed once.

Up to the first layer whose output a key changes, a model computes the same for every
key. Whoever tries many keys keeps those values for an image, and runs only the rest.
Knows no key.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from mlguard.errors import BindingError
from mlguard.models.condition import Change, Condition, Output, output_of
from mlguard.models.tracing import trace
from mlguard.models.weights import Normalization

Kept = dict[str, Any]  # what the rest of a model reads: tensors (N, …), and their sizes


class Cut:
    """A model and the layers whose outputs are changed.

    Use `Cut.of`. The model stays as it is and goes on being shared: training it, or
    hooks on its layers, act here too.
    """

    def __init__(
        self, model: nn.Module, graph: fx.Graph, changed: Mapping[fx.Node, str]
    ) -> None:
        self._runner = fx.Interpreter(fx.GraphModule(model, graph))
        nodes = list(graph.nodes)
        self._changed = dict(changed)
        behind = _behind(nodes, self._changed)
        self._before = [node for node in nodes if node not in behind]
        self._after = [node for node in nodes if node in behind]
        self._kept = [
            node
            for node in self._before
            if node in self._changed or any(user in behind for user in node.users)
        ]

    @classmethod
    def of(cls, model: nn.Module, layers: Sequence[str]) -> Self | None:
        """Cut a model, in eval mode.

        Layers may hold one another, as a block and the activation in it do: what is
        looked for is where in the graph each one's output is.

        Args:
            model: Any model; it is left as it is.
            layers: Names of layers whose outputs are changed.

        Returns:
            None if there are no layers, torch.fx cannot see through the model, a layer
            does not run exactly once, or two of them give the same output.
        """
        if not layers:
            return None
        try:
            whole = trace(model)
        except BindingError:
            return None
        outputs = [whole.outputs.get(layer, []) for layer in layers]
        if any(len(nodes) != 1 for nodes in outputs):
            return None
        changed = dict(zip((nodes[0] for nodes in outputs), layers, strict=True))
        return cls(model, whole.graph, changed) if len(changed) == len(layers) else None

    def before(self, pixels: Tensor) -> Kept:
        """Compute what no key changes.

        Shape:
            pixels  (N, 3, H, W) float32, normalized
        """
        self._runner.env = {}
        self._runner.args_iter = iter([pixels])
        kept = set(self._kept)
        found = self._run(self._before, kept)
        return {node.name: found[node] for node in self._kept}

    def after(self, kept: Kept, features: Mapping[str, Change]) -> Output:
        """Compute the rest.

        Args:
            kept: From `before`; as many images as then, or a choice of them.
            features: What is done to the outputs of layers, by name.
        """
        env = {node: _copy(kept[node.name]) for node in self._kept}
        for node, layer in self._changed.items():
            if node in env and layer in features:
                env[node] = features[layer](env[node])
        self._runner.env = env
        output: Output = self._run(self._after, set(), features)["output"]
        return output

    def _run(
        self,
        nodes: Sequence[fx.Node],
        keep: set[fx.Node],
        features: Mapping[str, Change] | None = None,
    ) -> dict[Any, Any]:
        """Run nodes in order; a value is dropped when nobody needs it any more."""
        env = self._runner.env
        last = {used: node for node in nodes for used in node.all_input_nodes}
        for node in nodes:
            value = self._runner.run_node(node)
            if node.op == "output":
                return {"output": value}
            layer = self._changed.get(node, "")
            if features and layer in features:
                value = features[layer](value)
            env[node] = value
            for used in node.all_input_nodes:
                if last[used] is node and used not in keep:
                    env.pop(used, None)
        return dict(env)


class SharedRuns:
    """Run a model on images under many conditions; what they share, once.

    Conditions share a model's beginning if they do the same to images and differ in
    feature maps. It is kept for the images that were shown last.

    Args:
        model: In eval mode.
        conditions: All that will be asked for.
        normalization: The model's mean and std.
    """

    def __init__(
        self,
        model: nn.Module,
        conditions: Iterable[Condition],
        normalization: Normalization,
    ) -> None:
        self._model, self._normalization = model, normalization
        conditions = list(conditions)
        uses = Counter(id(one.image) for one in conditions)
        self._shared = {image for image, number in uses.items() if number > 1}
        layers = {
            layer: None
            for one in conditions
            if id(one.image) in self._shared
            for layer in one.features
        }
        self._cut = Cut.of(model, tuple(layers))
        self._images: Tensor | None = None
        self._kept: dict[int, Kept] = {}

    def __call__(self, images: Tensor, condition: Condition) -> Output:
        """What the model gives. Shapes: as `output_of`."""
        image = id(condition.image)
        if self._cut is None or image not in self._shared:
            return output_of(self._model, images, condition, self._normalization)
        if images is not self._images:
            self._images, self._kept = images, {}
        if image not in self._kept:
            pixels = self._normalization(condition.image(images))
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            self._kept[image] = self._cut.before(pixels)
        return self._cut.after(self._kept[image], condition.features)


def _behind(
    nodes: Sequence[fx.Node], changed: Mapping[fx.Node, str]
) -> dict[fx.Node, None]:
    """The nodes that depend on a changed output."""
    behind: dict[fx.Node, None] = {}
    for node in nodes:
        depends = any(n in behind or n in changed for n in node.all_input_nodes)
        if depends or node.op == "output":
            behind[node] = None
    return behind


def choose(kept: Kept, rows: Tensor) -> Kept:
    """What was kept of some of the images.

    Args:
        kept: From `Cut.before`.
        rows: Which images, (n,) int64.
    """
    return {
        name: value.index_select(0, rows) if torch.is_tensor(value) else value
        for name, value in kept.items()
    }


def _copy(value: Any) -> Any:
    """So that a layer that works in place leaves what was kept as it is."""
    return value.clone() if torch.is_tensor(value) else value
