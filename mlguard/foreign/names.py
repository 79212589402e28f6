"""Give the tensors of a graph names that meet no others."""

from collections.abc import Collection

from onnx import GraphProto

from mlguard.foreign.scrub import nested_graphs


def clear_of(prefix: str, names: Collection[str]) -> str:
    """Return a prefix that none of some names begins with.

    Example:
        >>> clear_of("public/", ["public/a", "b"])
        '_public/'
    """
    while any(name.startswith(prefix) for name in names):
        prefix = f"_{prefix}"
    return prefix


def prefix_names(graph: GraphProto, prefix: str) -> None:
    """Put a prefix before the names of all tensors, those of nested graphs too."""
    held = [*graph.initializer, *(one.values for one in graph.sparse_initializer)]
    for one in (*graph.input, *graph.output, *graph.value_info, *held):
        one.name = prefix + one.name
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [prefix + one if one else "" for one in values]
        for nested in nested_graphs(node):
            prefix_names(nested, prefix)
