"""Look over an ONNX file on the wire, before an inference library builds it in memory.

Walks the protocol buffer without copying: how many nodes, how deep, which operator
domains, which tensors live outside the file. Needs no onnx package, so the runtime can
do it. Written down in docs/spec/bundle-v1.md, section 4.

Source: field numbers from onnx/onnx.proto of the ONNX project; wire format from
    protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mlguard.errors import MalformedBundle

MAX_NODES = 100_000
MAX_DEPTH = 8  # graphs within graphs; exported models have one or two
MAX_FIELDS = 5_000_000  # of one file; bounds the walk itself
MAX_VARINT_BYTES = 10
MAX_VARINT = (1 << 64) - 1
MAX_TAG = (1 << 32) - 1  # above it, some readers drop the bits that do not fit

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEFAULT_DOMAINS = (b"", b"ai.onnx")

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_OPSET, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 8, 20, 25
OPSET_DOMAIN, OPSET_VERSION = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 5, 15
NODE_ATTRIBUTE, NODE_DOMAIN = 5, 7
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_LOCATION = 8, 13, 14


@dataclass
class GraphFacts:
    """What a graph asks for.

    Attributes:
        opset: Of the default operator domain.
        nodes: In all graphs together.
        slots: Names of the initializers whose data is outside the file.
    """

    opset: int = 0
    nodes: int = 0
    slots: set[str] = field(default_factory=set)


def check_graph(data: bytes, *, name: str) -> GraphFacts:
    """Walk an ONNX file and refuse what a bundle's graph must not have.

    Args:
        data: The file.
        name: What to call it in a refusal.

    Raises:
        MalformedBundle: Not a protocol buffer, or beyond a limit.
    """
    try:
        return _Walk().model(memoryview(data))
    except _Unfit as unfit:
        raise MalformedBundle(f"{name}: {unfit}") from None


class _Unfit(Exception):
    """Why a graph is refused; never leaves this module."""


class _Walk:
    def __init__(self) -> None:
        self.facts = GraphFacts()
        self.fields = 0

    def model(self, data: memoryview) -> GraphFacts:
        graphs = 0
        for number, value in self.read(data):
            if number == MODEL_GRAPH:
                graphs += 1
                self.graph(_bytes(value), depth=1)
            elif number == MODEL_OPSET:
                self.opset(_bytes(value))
            elif number in (MODEL_TRAINING, MODEL_FUNCTIONS):
                raise _Unfit("has functions or training information")
        if graphs != 1:
            raise _Unfit(f"expected one graph, got {graphs}")
        return self.facts

    def opset(self, data: memoryview) -> None:
        fields = dict(self.read(data))
        self.domain(_bytes(fields.get(OPSET_DOMAIN, memoryview(b""))))
        version = fields.get(OPSET_VERSION)
        if self.facts.opset or not isinstance(version, int):
            raise _Unfit("expected one opset of the default domain")
        self.facts.opset = version

    def graph(self, data: memoryview, *, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _Unfit(f"graphs are nested deeper than {MAX_DEPTH}")
        for number, value in self.read(data):
            if number == GRAPH_NODE:
                self.node(_bytes(value), depth=depth)
            elif number == GRAPH_INITIALIZER:
                self.initializer(_bytes(value), depth=depth)
            elif number == GRAPH_SPARSE:
                raise _Unfit("has sparse tensors")

    def node(self, data: memoryview, *, depth: int) -> None:
        self.facts.nodes += 1
        if self.facts.nodes > MAX_NODES:
            raise _Unfit(f"has more than {MAX_NODES} nodes")
        for number, value in self.read(data):
            if number == NODE_DOMAIN:
                self.domain(_bytes(value))
            elif number == NODE_ATTRIBUTE:
                self.attribute(_bytes(value), depth=depth)

    def attribute(self, data: memoryview, *, depth: int) -> None:
        for number, value in self.read(data):
            if number in ATTRIBUTE_GRAPHS:
                self.graph(_bytes(value), depth=depth + 1)
            elif number in ATTRIBUTE_TENSORS and self.external(_bytes(value))[0]:
                raise _Unfit("a constant points outside the file")
            elif number in ATTRIBUTE_SPARSE:
                raise _Unfit("has sparse tensors")

    def initializer(self, data: memoryview, *, depth: int) -> None:
        outside, name = self.external(data)
        if outside and (depth > 1 or name in self.facts.slots):
            raise _Unfit("a nested or repeated initializer points outside the file")
        if outside:
            self.facts.slots.add(name)

    def external(self, data: memoryview) -> tuple[bool, str]:
        """Whether a tensor's data is outside the file, and its name."""
        outside, name = False, ""
        for number, value in self.read(data):
            if number == TENSOR_NAME:
                name = bytes(_bytes(value)).decode(errors="replace")
            elif number == TENSOR_EXTERNAL or (number == TENSOR_LOCATION and value):
                outside = True
        return outside, name

    def domain(self, domain: memoryview) -> None:
        if bytes(domain) not in DEFAULT_DOMAINS:
            raise _Unfit("uses operators outside the default domain")

    def read(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """The fields of one message: number, and integer or bytes."""
        position = 0
        while position < len(data):
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise _Unfit(f"has more than {MAX_FIELDS} fields")
            tag, position = _varint(data, position)
            if not 8 <= tag <= MAX_TAG:  # field numbers start at 1
                raise _Unfit("has a field number that is not possible")
            kind = tag & 7
            if kind == VARINT:
                value, position = _varint(data, position)
                yield tag >> 3, value
                continue
            if kind == BYTES:
                size, position = _varint(data, position)
            elif kind in (FIXED32, FIXED64):
                size = 4 if kind == FIXED32 else 8
            else:
                raise _Unfit("is not an ONNX file")
            if size > len(data) - position:
                raise _Unfit("is not an ONNX file, or ends too early")
            yield tag >> 3, data[position : position + size]
            position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value > MAX_VARINT or (index and not byte):
                raise _Unfit("writes a number in more bytes than it needs")
            return value, position
    raise _Unfit("is not an ONNX file")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _Unfit("is not an ONNX file")
    return value
