"""Take ONNX files apart and join them as bytes, without the onnx package.

The runtime joins graphs that it has checked (graph_limits); of protocol buffers it
needs only fields and their bytes. The field numbers are from onnx/onnx.proto.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

MODEL_GRAPH, MODEL_OPSET = 7, 8
OPSET_DOMAIN, OPSET_VERSION = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
GRAPH_INPUT, GRAPH_OUTPUT = 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_TEXT = 1, 3, 4
ATTRIBUTE_INTS, ATTRIBUTE_TYPE = 8, 20
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, TENSOR_ELEMENT, TENSOR_SHAPE, SHAPE_DIMENSION = 1, 1, 2, 1
# AttributeProto.AttributeType
IS_INT, IS_TEXT, IS_INTS = 2, 3, 7

Field = tuple[int, int | memoryview, memoryview]  # number, value, and all of it


def fields(data: memoryview) -> Iterator[Field]:
    """Yield the fields of a message that was checked before.

    Raises:
        ValueError: It is not a valid message.
    """
    at = 0
    while at < len(data):
        start = at
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            number, at = _read_varint(data, at)
            yield tag >> 3, number, data[start:at]
            continue
        size = 4 if kind == FIXED32 else 8
        if kind == BYTES:
            size, at = _read_varint(data, at)
        elif kind not in (FIXED32, FIXED64):
            raise ValueError("no protocol buffer")
        yield tag >> 3, data[at : at + size], data[start : at + size]
        at += size


def text_of(value: int | memoryview) -> str:
    """Return a text field."""
    return bytes(_bytes(value)).decode()


def named(data: memoryview, number: int) -> str:
    """Return the text of one field of a message; "" if it is missing."""
    found = [value for field, value, _ in fields(data) if field == number]
    return text_of(found[-1]) if found else ""


def renamed(
    data: memoryview, numbers: Iterable[int], rename: Callable[[str], str]
) -> bytes:
    """Return a message with the texts of some fields replaced."""
    chosen, parts = set(numbers), []
    for number, value, whole in fields(data):
        if number in chosen:
            parts.append(text(number, rename(text_of(value))))
        else:
            parts.append(bytes(whole))
    return b"".join(parts)


def varint(number: int) -> bytes:
    """Encode a number; negative ones take 64 bits."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def integer(number: int, value: int) -> bytes:
    """Return an integer field."""
    return varint(number << 3 | VARINT) + varint(value)


def message(number: int, *content: bytes) -> bytes:
    """Return a field that is a message, or bytes."""
    return header(number, sum(map(len, content))) + b"".join(content)


def header(number: int, size: int) -> bytes:
    """Return the bytes before a message of a given size."""
    return varint(number << 3 | BYTES) + varint(size)


def text(number: int, value: str) -> bytes:
    """Return a text field."""
    return message(number, value.encode())


def node(operator: str, inputs: Iterable[str], output: str, **options: Any) -> bytes:
    """Return a node of one output, as a field of a graph.

    Args:
        operator: An operator of the default domain.
        inputs: The names of its inputs; an empty one means that it is left out.
        output: The name of the output and of the node.
        options: Its attributes: integers, texts, or lists of integers.
    """
    parts = [text(NODE_INPUT, name) for name in inputs]
    parts += [text(NODE_OUTPUT, output), text(NODE_NAME, output)]
    parts += [text(NODE_OPERATOR, operator)]
    parts += [_attribute(name, value) for name, value in options.items()]
    return message(GRAPH_NODE, *parts)


def constant(name: str, value: NDArray[Any], kind: int) -> bytes:
    """Return an initializer, as a field of a graph; `kind` is its type in ONNX."""
    dims = [integer(TENSOR_DIMS, size) for size in value.shape]
    raw = message(TENSOR_RAW, np.ascontiguousarray(value).tobytes())
    parts = [*dims, integer(TENSOR_TYPE, kind), text(TENSOR_NAME, name), raw]
    return message(GRAPH_INITIALIZER, *parts)


def value(
    number: int, name: str, kind: int, shape: Iterable[int | str] | None = None
) -> bytes:
    """Return an input or output of a graph; a free size of its shape has a name."""
    parts = [integer(TENSOR_ELEMENT, kind)]
    if shape is not None:
        parts.append(message(TENSOR_SHAPE, *map(_dimension, shape)))
    tensor = message(TYPE_TENSOR, *parts)
    return message(number, text(VALUE_NAME, name), message(VALUE_TYPE, tensor))


def _dimension(size: int | str) -> bytes:
    content = text(2, size) if isinstance(size, str) else integer(1, size)
    return message(SHAPE_DIMENSION, content)


def opset(domain: str, version: int) -> bytes:
    """Return an operator set, as a field of a model."""
    return message(
        MODEL_OPSET, text(OPSET_DOMAIN, domain), integer(OPSET_VERSION, version)
    )


def _attribute(name: str, value: int | str | list[int]) -> bytes:
    if isinstance(value, str):
        content, kind = text(ATTRIBUTE_TEXT, value), IS_TEXT
    elif isinstance(value, int):
        content, kind = integer(ATTRIBUTE_INT, value), IS_INT
    else:
        content = b"".join(integer(ATTRIBUTE_INTS, number) for number in value)
        kind = IS_INTS
    return message(
        NODE_ATTRIBUTE,
        text(ATTRIBUTE_NAME, name),
        content,
        integer(ATTRIBUTE_TYPE, kind),
    )


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        result |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return result, at


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no protocol buffer")
    return value
