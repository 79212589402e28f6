"""Move tensors from wherever they are to the main graph, as external initializers."""

from collections.abc import Collection, Sequence

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from mlguard.foreign.scrub import nested_graphs
from mlguard.foreign.take import (
    Emptied,
    constant_of,
    fill,
    number_of,
    point_outside,
)


def move_tensors(
    emptied: Emptied, names: Sequence[str], kept: Collection[int]
) -> tuple[ModelProto, set[int]]:
    """Turn a model's tensors into external initializers of the main graph.

    Args:
        emptied: A model without its tensors, no name used twice. It is not changed.
        names: The new name of each tensor, which is also the location of its data.
        kept: Numbers of the tensors that stay where they are, with their data.

    Returns:
        The model, and the numbers of the tensors that moved.
    """
    model = ModelProto()
    model.CopyFrom(emptied.model)
    mover = _Mover(emptied, names, kept)
    mover.visit(model.graph)
    for number in sorted(mover.moved):
        taken = emptied.taken[number]
        tensor = TensorProto(
            name=names[number], data_type=taken.element_type, dims=taken.shape
        )
        point_outside(tensor, tensor.name)
        model.graph.initializer.append(tensor)
    return model, mover.moved


def external_names(emptied: Emptied) -> list[str]:
    """Return the names of moved tensors, which differ from all inputs and outputs."""
    graph = emptied.model.graph
    taken = {value.name for value in (*graph.input, *graph.output)}
    names = []
    for number in range(len(emptied.taken)):
        name = f"t{number}"
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


class _Mover:
    def __init__(
        self, emptied: Emptied, names: Sequence[str], kept: Collection[int]
    ) -> None:
        self.emptied, self.names, self.kept = emptied, names, kept
        self.moved: set[int] = set()

    def visit(self, graph: GraphProto) -> None:
        """Move the tensors of a graph and of the graphs within it."""
        renamed = self.initializers(graph) | self.constants(graph)
        for node in graph.node:
            for nested in nested_graphs(node):
                self.visit(nested)
        if renamed:
            _rename(graph, renamed)
            _identities(graph, renamed)

    def initializers(self, graph: GraphProto) -> dict[str, str]:
        renamed, left = {}, []
        for tensor in graph.initializer:
            new = self.move(tensor)
            if new is None:
                left.append(tensor)
            else:
                renamed[tensor.name] = new
        if renamed:
            _replace(graph.initializer, left)
        return renamed

    def constants(self, graph: GraphProto) -> dict[str, str]:
        renamed, left = {}, []
        for node in graph.node:
            tensor = constant_of(node)
            new = None if tensor is None else self.move(tensor)
            if new is None:
                left.append(node)
            else:
                renamed[node.output[0]] = new
        if renamed:
            _replace(graph.node, left)
        return renamed

    def move(self, tensor: TensorProto) -> str | None:
        """Return the new name of a moved tensor; None if it stays and is refilled."""
        number = number_of(tensor)
        if number is None:
            return None
        if number in self.kept:
            fill(tensor, self.emptied.taken[number].data)
            return None
        self.moved.add(number)
        return self.names[number]


def _rename(graph: GraphProto, renamed: dict[str, str]) -> None:
    for node in graph.node:
        if any(name in renamed for name in node.input):
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for nested in nested_graphs(node):
            _rename(nested, renamed)


def _identities(graph: GraphProto, renamed: dict[str, str]) -> None:
    """Add an identity node for a moved tensor that is an output of its graph."""
    for name in {value.name for value in graph.output}:
        if name in renamed:
            node = NodeProto(op_type="Identity", input=[renamed[name]], output=[name])
            graph.node.append(node)


def _replace(field: object, messages: list[object]) -> None:
    copies = [type(message)() for message in messages]
    for copy, message in zip(copies, messages, strict=True):
        copy.CopyFrom(message)  # type: ignore[attr-defined]
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]
