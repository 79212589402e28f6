"""Take out of an ONNX graph what the exporter tells about the owner's source code.

torch writes the absolute path of every source line, stack traces, class names and
parameter names into the graph. None of it is needed to run, and all of it would ship.
Knows nothing of keys: there are none in a graph.
"""

from collections.abc import Iterable

from onnx import GraphProto, ModelProto, NodeProto
from onnx.inliner import inline_local_functions

PRODUCER = "mlguard"
GRAPH = "model"


def scrub(model: ModelProto) -> ModelProto:
    """Give a model that computes the same under names that say nothing.

    Graph inputs and outputs keep their names and sizes; all other values become v0, v1
    and so on, initializers w0, w1, and nodes have no name.
    """
    plain = ModelProto()
    plain.CopyFrom(inline_local_functions(model) if model.functions else model)
    _clear(plain, "metadata_props", "doc_string", "producer_version", "domain")
    plain.producer_name = PRODUCER
    default = [opset for opset in plain.opset_import if opset.domain in ("", "ai.onnx")]
    plain.ClearField("opset_import")
    plain.opset_import.extend(default)
    graph = plain.graph
    kept = {value.name: value.name for value in (*graph.input, *graph.output)}
    _scrub_graph(graph, _Names(kept))
    return plain


class _Names:
    """New names for old. One table for all nested graphs: they see outer values."""

    def __init__(self, kept: dict[str, str]) -> None:
        self.table = {"": "", **kept}  # "" is an input or output left out
        self.given = 0

    def __call__(self, old: str, prefix: str = "v") -> str:
        if old not in self.table:
            self.table[old] = f"{prefix}{self.given}"
            self.given += 1
        return self.table[old]


def _scrub_graph(graph: GraphProto, names: _Names) -> None:
    _clear(graph, "metadata_props", "doc_string")
    graph.name = GRAPH
    # Sizes of inner values are named after the exporter's symbols; runtimes infer them.
    graph.ClearField("value_info")
    graph.ClearField("quantization_annotation")
    for tensor in graph.initializer:
        _clear(tensor, "metadata_props", "doc_string")
        tensor.name = names(tensor.name, "w")
    for value in (*graph.input, *graph.output):
        _clear(value, "metadata_props", "doc_string")
        value.name = names(value.name)
    for node in graph.node:
        _scrub_node(node, names)


def _scrub_node(node: NodeProto, names: _Names) -> None:
    _clear(node, "metadata_props", "doc_string", "name")
    node.input[:] = _renamed(node.input, names)
    node.output[:] = _renamed(node.output, names)
    for attribute in node.attribute:
        _clear(attribute, "doc_string")
        # Only what is there: touching an absent tensor or graph would add it.
        single = [attribute.t] if attribute.HasField("t") else []
        for tensor in (*single, *attribute.tensors):
            _clear(tensor, "metadata_props", "doc_string", "name")
        nested = [attribute.g] if attribute.HasField("g") else []
        for graph in (*nested, *attribute.graphs):
            _scrub_graph(graph, names)


def _renamed(values: Iterable[str], names: _Names) -> list[str]:
    return [names(value) for value in values]


def _clear(message: object, *fields: str) -> None:
    for field in fields:
        message.ClearField(field)  # type: ignore[attr-defined]
