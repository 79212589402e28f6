"""Move channel permutations from feature maps into the weights that read them.

A convolution that reads permuted channels is the convolution with its columns permuted
the other way. Written that way, the permutation no longer depends on the image: the
runtime computes the columns once, when it loads the graph and fills the key slots, and
nothing afterwards. The slots do not change.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from mlguard.transforms.channels import order_slot, signs_slot

AXIS = 1  # of channels, in feature maps and in the columns of a weight


def into_weights(model: ModelProto, layers: list[str]) -> None:
    """Move permutations where possible; layers read by other operators keep theirs.

    Args:
        model: A model whose key slots are initializers already; it is changed in place.
        layers: The layers whose feature maps the graph permutes.
    """
    for layer in layers:
        graph = _Graph(model.graph, layers)
        found = graph.permutation(layer)
        if found is not None:
            _move(graph, layer, *found)


def _move(
    graph: "_Graph", layer: str, nodes: list[NodeProto], readers: list[NodeProto]
) -> None:
    order, kinds = order_slot(layer), {node.op_type: node for node in nodes}
    source = kinds["Gather"].input[0]
    first = min(graph.place(reader) for reader in readers)
    size = numpy_helper.from_array(graph.size_of(order), f"{order}/size")
    graph.proto.initializer.append(size)
    inverse = helper.make_node(  # the places of the sorted entries: the way back
        "TopK",
        [order, size.name],
        [f"{order}/sorted", f"{order}/inverse"],
        axis=0,
        largest=0,
    )
    made = [inverse]
    for number, reader in enumerate(readers):
        columns, signed = reader.input[1], f"{order}/signed/{number}"
        if "Mul" in kinds:
            signs = [columns, signs_slot(layer)]
            made.append(helper.make_node("Mul", signs, [signed]))
            columns = signed
        permuted = f"{order}/columns/{number}"
        taken = [columns, inverse.output[1]]
        made.append(helper.make_node("Gather", taken, [permuted], axis=AXIS))
        reader.input[0] = source
        reader.input[1] = permuted
    for offset, node in enumerate(made):
        graph.proto.node.insert(first + offset, node)
    for node in nodes:
        graph.proto.node.remove(node)


class _Graph:
    """A graph, and the readers of each value."""

    def __init__(self, proto: GraphProto, layers: list[str]) -> None:
        self.proto = proto
        self.slots = {slot(one) for one in layers for slot in (order_slot, signs_slot)}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in proto.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.weights = {tensor.name: tensor for tensor in proto.initializer}
        self.results = {value.name for value in proto.output}

    def place(self, node: NodeProto) -> int:
        """Return the place of a node."""
        return next(i for i, other in enumerate(self.proto.node) if other is node)

    def size_of(self, slot: str) -> NDArray[np.int64]:
        """Return how many entries an order has, as TopK expects it."""
        return np.array([self.weights[slot].dims[0]], dtype=np.int64)

    def permutation(self, layer: str) -> tuple[list[NodeProto], list[NodeProto]] | None:
        """Return the nodes that permute a layer, and its readers, all convolutions."""
        order, signs = order_slot(layer), signs_slot(layer)
        nodes = self._only(order, "Reshape")  # the exporter's, to one axis
        gathers = self._only(nodes[0].output[0] if nodes else order, "Gather")
        if not gathers:
            return None
        nodes += gathers
        if signs in self.weights:
            flips = self._only(nodes[-1].output[0], "Mul")
            if not flips:
                return None
            nodes += flips
        outputs = {node.output[0] for node in nodes}
        readers = self.readers.get(nodes[-1].output[0], [])
        if not readers or outputs & self.results:
            return None
        return (nodes, readers) if all(map(self._is_plain, readers)) else None

    def _only(self, name: str, kind: str) -> list[NodeProto]:
        """Return the one reader of a value, if there is one and it is of this kind."""
        readers = self.readers.get(name, [])
        return readers[:] if [one.op_type for one in readers] == [kind] else []

    def _is_plain(self, node: NodeProto) -> bool:
        """Whether a node is a convolution of all channels with its own weights."""
        groups = [one.i for one in node.attribute if one.name == "group"]
        weight = node.input[1] if node.op_type == "Conv" else ""
        tensor = self.weights.get(weight)
        return groups in ([], [1]) and tensor is not None and weight not in self.slots
