"""Remove from an ONNX graph what the exporter reveals of the owner's source code.

torch writes the absolute path of every source line, stack traces, class names and
parameter names into the graph. None of it is needed to run, and all of it would ship.
The module knows nothing of keys: a graph has none.
"""

from collections.abc import Iterable, Iterator

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto
from onnx.inliner import inline_local_functions

from mlguard.errors import ModelFileError

PRODUCER = "mlguard"
GRAPH = "model"
DEFAULT_DOMAINS = ("", "ai.onnx")


def scrub(model: ModelProto) -> ModelProto:
    """Return a model that computes the same under neutral names.

    Graph inputs and outputs keep their names and sizes; all other values become v0, v1
    and so on, initializers w0, w1, and nodes have no name.

    Raises:
        ModelFileError: A local function cannot be inlined.
    """
    plain = ModelProto()
    plain.CopyFrom(without_functions(model))
    _clear(plain, "metadata_props", "doc_string", "producer_version", "domain")
    _clear(plain, "model_version", "training_info", "configuration")
    plain.producer_name = PRODUCER
    _keep_used_opsets(plain)
    graph = plain.graph
    kept = {value.name: value.name for value in (*graph.input, *graph.output)}
    _scrub_graph(graph, _Names(kept))
    return plain


def without_functions(model: ModelProto) -> ModelProto:
    """Inline the local functions of a model.

    Raises:
        ModelFileError: A local function cannot be inlined.
    """
    for convert in (False, True):  # to the model's opset, if a function has another
        if not model.functions:
            break
        try:
            model = inline_local_functions(model, convert_version=convert)
        except RuntimeError:  # raised by the onnx package if it cannot convert
            break
    if model.functions:
        raise ModelFileError(
            f"the local function {model.functions[0].name!r} cannot be inlined",
            hint="run onnx.inliner.inline_local_functions on the model, or export it "
            "for one opset",
        )
    return model


def nodes_of(graph: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """Yield all nodes, including those of nested graphs."""
    for node in graph.node:
        yield node
        for nested in nested_graphs(node):
            yield from nodes_of(nested)


def nested_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """Return the branches or the body of a node."""
    for attribute in node.attribute:
        # Only what exists: touching an absent graph would add it.
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


class _Names:
    """New names for old ones, in one table: nested graphs see outer values."""

    def __init__(self, kept: dict[str, str]) -> None:
        self.table = {"": "", **kept}  # "" is an input or output left out
        self.taken = set(kept)
        self.given = 0

    def __call__(self, old: str, prefix: str = "v") -> str:
        if old not in self.table:
            self.table[old] = self._fresh(prefix)
        return self.table[old]

    def _fresh(self, prefix: str) -> str:
        while True:
            new = f"{prefix}{self.given}"
            self.given += 1
            if new not in self.taken:
                return new


def _keep_used_opsets(model: ModelProto) -> None:
    used = {node.domain for node in nodes_of(model.graph)} | {*DEFAULT_DOMAINS}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    model.ClearField("opset_import")
    model.opset_import.extend(kept)


def _scrub_graph(graph: GraphProto, names: _Names) -> None:
    _clear(graph, "metadata_props", "doc_string")
    graph.name = GRAPH
    # Sizes of inner values are named after the exporter's symbols; runtimes infer them.
    graph.ClearField("value_info")
    graph.ClearField("quantization_annotation")
    for tensor in graph.initializer:
        _clear(tensor, "metadata_props", "doc_string")
        tensor.name = names(tensor.name, "w")
    for sparse in graph.sparse_initializer:
        _clear(sparse.values, "metadata_props", "doc_string")
        sparse.values.name = names(sparse.values.name, "w")
    for value in (*graph.input, *graph.output):
        _clear(value, "metadata_props", "doc_string")
        value.name = names(value.name)
    for node in graph.node:
        _scrub_node(node, names)


def _scrub_node(node: NodeProto, names: _Names) -> None:
    _clear(node, "metadata_props", "doc_string", "name", "device_configurations")
    node.input[:] = _renamed(node.input, names)
    node.output[:] = _renamed(node.output, names)
    for attribute in node.attribute:
        _clear(attribute, "doc_string")
        # Only what exists: touching an absent tensor would add it.
        single = [attribute.t] if attribute.HasField("t") else []
        for tensor in (*single, *attribute.tensors):
            _clear(tensor, "metadata_props", "doc_string", "name")
    for graph in nested_graphs(node):
        _scrub_graph(graph, names)


def _renamed(values: Iterable[str], names: _Names) -> list[str]:
    return [names(value) for value in values]


def _clear(message: object, *fields: str) -> None:
    for field in fields:
        message.ClearField(field)  # type: ignore[attr-defined]
