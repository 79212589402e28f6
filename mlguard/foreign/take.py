"""Take the bytes of every tensor out of a model, wherever the tensor is.

The rest is small and can be copied freely: each tensor taken leaves its name, type and
shape, and its number as the location of its data.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
)

from mlguard.foreign.data_files import DataFiles
from mlguard.foreign.element_types import STRING, bytes_of, size_of
from mlguard.foreign.scrub import DEFAULT_DOMAINS, nested_graphs

# Smaller tensors stay in the graph: shapes, axes, scales, which shape inference reads
# and onnxruntime refuses as external data.
MIN_BYTES = 128
MIN_FLOAT_BYTES = 20  # the scales of a resize are four floats; a bias may have eight
FLOATS = {1, 10, 11, 14, 15, 16, 17, 18, 19, 20, 23, 24}  # ONNX's numbers
LISTS = {AttributeProto.FLOATS: 4, AttributeProto.INTS: 8}  # bytes of an element


@dataclass(frozen=True)
class Uncovered:
    """A tensor that stays in the graph.

    Attributes:
        name: Its name in the owner's file.
        size_bytes: The size of its data.
        reason: Why it stays.
    """

    name: str
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class Taken:
    """A tensor that was taken out; its place in the model holds its number.

    Attributes:
        name: Its name in the owner's file.
        element_type: ONNX's number.
        shape: Sizes of its axes.
        data: Its bytes, or a map of them.
    """

    name: str
    element_type: int
    shape: tuple[int, ...]
    data: Any = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """The size of its data."""
        return memoryview(self.data).nbytes


@dataclass
class Emptied:
    """A model without its tensors.

    Attributes:
        model: The rest of the model.
        taken: The tensors, by number.
        uncovered: Tensors that cannot be taken out.
        small_bytes: The size of the tensors that are too small to be taken.
    """

    model: ModelProto
    taken: list[Taken]
    uncovered: list[Uncovered]
    small_bytes: int


def take_tensors(
    model: ModelProto, files: DataFiles, *, smallest: bool = False
) -> Emptied:
    """Take out all tensors that could be external data.

    Args:
        model: The model; its tensors are removed.
        files: The files of its external data.
        smallest: Whether to take tensors that would stay, too.

    Raises:
        ModelFileError: A tensor is malformed, or its data is missing.
    """
    taker = _Taker(files, smallest=smallest)
    for graph in (model.graph, *model.functions):
        taker.visit(graph)
    files.check_overlaps()
    # Not the model itself: its memory still holds the removed data.
    left = ModelProto.FromString(model.SerializeToString())
    return Emptied(left, taker.taken, taker.uncovered, taker.small_bytes)


def number_of(tensor: TensorProto) -> int | None:
    """Return the number of a tensor that was taken out, or None."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return None
    return int(tensor.external_data[0].value)


def constant_of(node: NodeProto) -> TensorProto | None:
    """Return the tensor of a Constant node."""
    if node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.HasField("t"):
                tensor: TensorProto = attribute.t
                return tensor
    return None


class _Taker:
    def __init__(self, files: DataFiles, *, smallest: bool) -> None:
        self.files, self.name, self.smallest = files, files.name, smallest
        self.taken: list[Taken] = []
        self.uncovered: list[Uncovered] = []
        self.small_bytes = 0

    def visit(self, graph: GraphProto | FunctionProto) -> None:
        if isinstance(graph, GraphProto):
            self.initializers(graph)
        for node in graph.node:
            self.node(node)
            for nested in nested_graphs(node):
                self.visit(nested)

    def initializers(self, graph: GraphProto) -> None:
        for tensor in graph.initializer:
            self.take(tensor, tensor.name)
        for sparse in graph.sparse_initializer:
            for part in (sparse.values, sparse.indices):
                if part.data_location == TensorProto.EXTERNAL:
                    self.embed(part)
            size = size_of(sparse.values, name=self.name)
            self.leave(sparse.values.name, size, "it is sparse")

    def node(self, node: NodeProto) -> None:
        if node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS:
            _as_tensor(node)
        constant = constant_of(node)
        if constant is not None:
            self.take(constant, node.output[0])
            return
        what = f"it is an attribute of {node.op_type}"
        for attribute in node.attribute:
            where = f"{node.name or node.op_type}.{attribute.name}"
            for tensor in _tensors_of(attribute):
                if tensor.data_location == TensorProto.EXTERNAL:
                    self.embed(tensor)
                self.leave(where, size_of(tensor, name=self.name), what)
            size = _list_bytes(attribute)
            if size >= MIN_BYTES:  # strides and axes are no weights
                self.leave(where, size, what)

    def take(self, tensor: TensorProto, name: str) -> None:
        size = size_of(tensor, name=self.name)
        if tensor.data_type == STRING:
            self.leave(name, size, "it has strings, which cannot be external data")
        elif self.stays(tensor.data_type, size):
            self.small_bytes += size
            if tensor.data_location == TensorProto.EXTERNAL:
                self.embed(tensor)
        else:
            data = self.data(tensor)
            shape, kind = tuple(tensor.dims), tensor.data_type
            _point_to(tensor, len(self.taken))
            self.taken.append(Taken(name, kind, shape, data))

    def stays(self, element_type: int, size: int) -> bool:
        if self.smallest:
            return size == 0
        return size < (MIN_FLOAT_BYTES if element_type in FLOATS else MIN_BYTES)

    def data(self, tensor: TensorProto) -> Any:
        if tensor.data_location == TensorProto.EXTERNAL:
            return self.files.read(tensor)
        return bytes_of(tensor, name=self.name)

    def embed(self, tensor: TensorProto) -> None:
        fill(tensor, self.files.read(tensor))

    def leave(self, name: str, size: int, reason: str) -> None:
        if size >= MIN_BYTES:
            self.uncovered.append(Uncovered(name, size, reason))
        else:
            self.small_bytes += size


def fill(tensor: TensorProto, data: Any) -> None:
    """Put a tensor's bytes back into it."""
    raw = bytes(data)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = raw


def _point_to(tensor: TensorProto, number: int) -> None:
    name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type = name, kind
    tensor.dims.extend(dims)
    point_outside(tensor, str(number))


def point_outside(tensor: TensorProto, location: str) -> None:
    """Mark a tensor's data as external."""
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location


def _as_tensor(node: NodeProto) -> None:
    """Write the numbers of a Constant node as a tensor."""
    for attribute in node.attribute:
        if attribute.ref_attr_name or attribute.name not in (
            "value_floats",
            "value_ints",
        ):
            continue
        if attribute.name == "value_floats":
            kind, data = TensorProto.FLOAT, np.array(attribute.floats, "<f4")
        else:
            kind, data = TensorProto.INT64, np.array(attribute.ints, "<i8")
        attribute.Clear()
        attribute.name, attribute.type = "value", AttributeProto.TENSOR
        attribute.t.data_type = kind
        attribute.t.dims.append(len(data))
        attribute.t.raw_data = data.tobytes()


def _tensors_of(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):  # touching an absent tensor would add it
        yield attribute.t
    yield from attribute.tensors
    if attribute.HasField("sparse_tensor"):
        yield attribute.sparse_tensor.values
        yield attribute.sparse_tensor.indices
    for sparse in attribute.sparse_tensors:
        yield sparse.values
        yield sparse.indices


def _list_bytes(attribute: AttributeProto) -> int:
    if attribute.type == AttributeProto.STRINGS:
        return sum(len(text) for text in attribute.strings)
    numbers = len(attribute.floats) + len(attribute.ints)
    return numbers * LISTS.get(attribute.type, 0)
