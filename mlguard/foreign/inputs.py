"""Prepare the inputs, outputs and initializers of the main graph for a bundle."""

from onnx import GraphProto, ModelProto

from mlguard.errors import ModelFileError
from mlguard.foreign.scrub import nested_graphs
from mlguard.foreign.take import constant_of

CONSTANT_SINCE = 4  # IR version from which an initializer need not be an input
MAX_NAME = 200  # characters


def settle_inputs(model: ModelProto, *, freeze: bool, name: str) -> None:
    """Remove initializers from the inputs.

    Before IR version 4 each initializer had to be an input as well, and was a constant
    all the same. Since then, such an initializer is a default that a caller may
    override, and a key cannot protect a weight that anybody may override.

    Args:
        model: Changed in place.
        freeze: Whether to turn such defaults into constants.
        name: The model's name in a refusal.

    Raises:
        ModelFileError: There are such defaults.
    """
    held = {tensor.name for tensor in model.graph.initializer}
    held |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    both = [value.name for value in model.graph.input if value.name in held]
    if both and model.ir_version >= CONSTANT_SINCE and not freeze:
        raise ModelFileError(
            f"{name}: the initializer {both[0]!r} is also an input, so that a caller "
            "may replace it"
            + (f", and so are {len(both) - 1} more" if len(both) > 1 else ""),
            hint="--freeze-inputs turns such inputs into constants; exporters write "
            "them for old runtimes",
        )
    model.ir_version = max(model.ir_version, CONSTANT_SINCE)
    kept = [value for value in model.graph.input if value.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def check_names(model: ModelProto, *, name: str) -> None:
    """Refuse inputs and outputs with names that a caller cannot use.

    Raises:
        ModelFileError: A name has control characters or is too long, or two inputs or
            outputs have one name or differ only in case.
    """
    for values in (model.graph.input, model.graph.output):
        seen: dict[str, str] = {}
        for value in values:
            if value.name in seen.values():
                raise ModelFileError(
                    f"{name}: two inputs or two outputs are called {value.name!r}",
                    hint="export the model with a name for each",
                )
            if not value.name.isprintable() or not 0 < len(value.name) <= MAX_NAME:
                raise ModelFileError(
                    f"{name}: an input or output is called {value.name[:40]!r}, "
                    f"expected 1 to {MAX_NAME} printable characters",
                    hint="rename it in the exporter",
                )
            other = seen.setdefault(value.name.casefold(), value.name)
            if other != value.name:
                raise ModelFileError(
                    f"{name}: {other!r} and {value.name!r} differ only in case",
                    hint="rename one in the exporter",
                )


def drop_unused(graph: GraphProto) -> None:
    """Remove unused initializers; onnxruntime would drop them, then miss their data."""
    used = _used(graph)
    unused = [tensor for tensor in graph.initializer if tensor.name not in used]
    for tensor in unused:
        graph.initializer.remove(tensor)
    for node in list(graph.node):
        for nested in nested_graphs(node):
            drop_unused(nested)
        if constant_of(node) is not None and node.output[0] not in used:
            graph.node.remove(node)


def keep_needed(graph: GraphProto) -> None:
    """Remove the nodes and initializers that a graph's outputs do not need.

    Its nodes must come behind what they read, as ONNX demands.
    """
    needed = {value.name for value in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if needed.isdisjoint(node.output):
            del graph.node[place]
        else:
            needed.update(node.input, *map(_used, nested_graphs(node)))
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in needed:
            del graph.initializer[place]
    for place in reversed(range(len(graph.sparse_initializer))):
        if graph.sparse_initializer[place].values.name not in needed:
            del graph.sparse_initializer[place]


def _used(graph: GraphProto) -> set[str]:
    """Return the names that a graph's nodes read, nested ones too, and its outputs."""
    used = {value.name for value in graph.output}
    for node in graph.node:
        used.update(node.input)
        for nested in nested_graphs(node):
            used |= _used(nested)
    return used
