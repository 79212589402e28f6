"""Step 6: a graph whose weights lie beside it, so that they are in memory once.

torch's exporter gives a graph of its own kind, whose weights are those of the model. As
protocol buffers they would be there twice, and at every copy and every check again.
"""

import ctypes
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import EncodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper

from mlguard.errors import BundleError
from mlguard.foreign import point_outside, scrub
from mlguard.runtime import wire

MIN_BYTES = 1 << 12  # smaller tensors stay in the graph
MAX_BYTES = (1 << 31) - 1  # protocol buffers end at 2 GiB
OPSET = helper.make_opsetid("", 20)  # of the graph that takes another's place

Bytes = NDArray[np.uint8]


@dataclass
class LightGraph:
    """A graph, and its weights beside it.

    Attributes:
        graph: An ONNX graph. The data of each weight is external; its location is its
            number.
        weights: The bytes of each weight, by number; emptied once they are no longer
            needed.
    """

    graph: onnx.ModelProto
    weights: list[Bytes]

    def to_proto(self) -> onnx.ModelProto:
        """Return the graph with its weights in it, copied."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.graph)
        for tensor in whole.graph.initializer:
            number = _number_of(tensor)
            if number is not None:
                _point_inside(tensor)
                tensor.raw_data = self.weights[number].tobytes()
        return whole

    def to_bytes(self) -> bytes:
        """Return what `to_proto` serializes to; the weights are copied once.

        Raises:
            BundleError: It exceeds the limit of protocol buffers.
        """
        chunks = list(self._chunks())
        if sum(map(len, chunks)) > MAX_BYTES:
            raise too_large()
        return b"".join(chunks)

    def _chunks(self) -> Iterator[bytes | memoryview]:
        content = self.graph.SerializeToString(deterministic=True)
        for number, value, whole in wire.fields(memoryview(content)):
            if number != wire.MODEL_GRAPH or isinstance(value, int):
                yield whole
                continue
            pieces = [
                piece
                for found, inner, kept in wire.fields(value)
                for piece in self._filled(found, inner, kept)
            ]
            yield wire.header(wire.MODEL_GRAPH, sum(map(len, pieces)))
            yield from pieces

    def _filled(
        self, field: int, value: int | memoryview, whole: memoryview
    ) -> list[bytes | memoryview]:
        """Return a field of the graph, of a weight with its bytes."""
        if field != wire.GRAPH_INITIALIZER or isinstance(value, int):
            return [whole]
        tensor = TensorProto.FromString(bytes(value))
        number = _number_of(tensor)
        if number is None:
            return [whole]
        _point_inside(tensor)
        content = tensor.SerializeToString(deterministic=True)
        data = self.weights[number].data
        raw = wire.header(wire.TENSOR_RAW, len(data))
        size = len(content) + len(raw) + len(data)
        return [wire.header(wire.GRAPH_INITIALIZER, size), content, raw, data]

    def without_data(self) -> bytes:
        """Return a graph of the same operators whose weights are inputs, for checks.

        Raises:
            BundleError: It exceeds the limit of protocol buffers.
        """
        bare = onnx.ModelProto()
        bare.CopyFrom(self.graph)
        kept = []
        for tensor in bare.graph.initializer:
            if _number_of(tensor) is None:
                kept.append(tensor)
            else:
                kind, shape = tensor.data_type, list(tensor.dims)
                given = helper.make_tensor_value_info(tensor.name, kind, shape)
                bare.graph.input.append(given)
        bare.graph.ClearField("initializer")
        bare.graph.initializer.extend(kept)
        return serialized(bare)


def light_graph(program: torch.onnx.ONNXProgram) -> LightGraph:
    """Take weights and the exporter's traces out of what torch's exporter returned.

    Args:
        program: What the exporter returned; it has no weights afterwards.
    """
    weights: list[Bytes] = []
    numbers: dict[str, int] = {}
    for name, value in program.model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes >= MIN_BYTES:
            numbers[name] = len(weights)
            weights.append(_bytes_of(tensor))
            value.const_value = _Emptied(tensor)  # type: ignore[assignment]
    proto = program.model_proto
    for one in proto.graph.initializer:
        if one.name in numbers:
            one.ClearField("raw_data")
            point_outside(one, str(numbers[one.name]))
    _let_go()
    return LightGraph(scrub(proto), weights)


def _let_go() -> None:
    """Make onnxscript's rewriter let go of the model that it last looked at.

    Its rules keep that graph, with every weight that they joined with another. A graph
    of one operator takes its place.
    """
    from onnxscript import optimizer  # slow, and only torch's exporter needs it

    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"
    )
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "one", [given], [made])
    optimizer.optimize(helper.make_model(graph, opset_imports=[OPSET]))


class _Emptied:
    """A tensor of the exporter's kind whose bytes were taken out."""

    def __init__(self, tensor: Any) -> None:
        self.name, self.doc_string = tensor.name, tensor.doc_string
        self.dtype, self.shape = tensor.dtype, tensor.shape
        self.metadata_props = tensor.metadata_props

    def tobytes(self) -> bytes:
        return b""


def return_freed() -> None:
    """Give memory that is no longer used back to the system, where glibc kept it.

    A model's weights are freed in pieces that onnxruntime, which asks for large ones,
    does not take.
    """
    gc.collect()
    trim = (
        getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    )
    if trim is not None:
        trim(0)


def _bytes_of(tensor: Any) -> Bytes:
    """Return a tensor's bytes: the model's own where they are laid out as in a file."""
    values = np.asarray(tensor.numpy())
    if values.nbytes != tensor.nbytes:  # several elements in a byte
        return np.frombuffer(tensor.tobytes(), np.uint8)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def _number_of(tensor: TensorProto) -> int | None:
    """Return the number of a weight; None for what is in the graph, and key slots."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return None
    location = tensor.external_data[0].value
    return int(location) if location.isdecimal() else None


def _point_inside(tensor: TensorProto) -> None:
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def serialized(graph: onnx.ModelProto) -> bytes:
    """Return the bytes of a graph, always the same.

    Raises:
        BundleError: They exceed the limit of protocol buffers.
    """
    try:
        return bytes(graph.SerializeToString(deterministic=True))
    except (EncodeError, ValueError):
        raise too_large() from None


def too_large() -> BundleError:
    """Return the refusal of a graph that protocol buffers cannot hold."""
    return BundleError(
        "the model is larger than 2 GiB, the limit of a bundle",
        hint="choose an architecture with fewer parameters",
    )
