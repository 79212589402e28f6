"""Check an ONNX file as bytes, before an inference library builds it in memory.

The walk over the protocol buffer copies nothing; it counts nodes and depth, and
collects operator domains and external tensors. It needs no onnx package, so the runtime
can use it. The specification is docs/spec/bundle-v1.md and bundle-v2.md, section 4.

Source: field numbers from onnx/onnx.proto of the ONNX project; wire format from
    protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from mlguard.errors import MalformedBundle

MAX_NODES = 100_000
MAX_DEPTH = 8  # graphs within graphs; exported models have one or two
MAX_FIELDS = 5_000_000  # of one file; bounds the walk itself
MAX_VARINT_BYTES = 10
ONE_BYTE = 0x80  # a number below it has one byte
MAX_VARINT = (1 << 64) - 1
MAX_TAG = (1 << 32) - 1  # above it, some readers drop the excess bits

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEFAULT_DOMAINS = (b"", b"ai.onnx")

EVERY = range(1 << 29)  # field numbers of a protocol buffer

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_OPSET, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 8, 20, 25
OPSET_DOMAIN, OPSET_VERSION = 1, 2
FUNCTION_NODE = 7
ENTRY_KEY, ENTRY_VALUE = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 5, 15
NODE_ATTRIBUTE, NODE_DOMAIN = 5, 7
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
SPARSE_PARTS = {1, 2}  # values and indices of a SparseTensorProto
TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_LOCATION = 8, 13, 14
# What is looked at; of everything else, only that it is well formed.
OF_GRAPH = {GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE}
OF_NODE = {NODE_ATTRIBUTE, NODE_DOMAIN}
OF_ATTRIBUTE = {*ATTRIBUTE_TENSORS, *ATTRIBUTE_GRAPHS, *ATTRIBUTE_SPARSE}
OF_TENSOR = {TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_LOCATION}


@dataclass
class GraphFacts:
    """The facts of a graph that the limits concern.

    Attributes:
        opset: The version of the default operator domain.
        opsets: The version of every domain, by its name; the default one's is empty.
        nodes: How many nodes all graphs have together.
        slots: Names of the initializers whose data is external.
        locations: The location that each of them gives, by name.
    """

    opset: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    slots: set[str] = field(default_factory=set)
    locations: dict[str, str] = field(default_factory=dict)


def check_graph(data: bytes, *, name: str, foreign: bool = False) -> GraphFacts:
    """Walk an ONNX file, and refuse one that a bundle must not hold.

    Args:
        data: The file.
        name: The name of the file in a refusal.
        foreign: Whether any operator domain, functions and sparse constants are
            allowed, as in format 2; then each external tensor has its own location, and
            nothing but a location.

    Raises:
        MalformedBundle: Not a protocol buffer, or beyond a limit.
    """
    try:
        return _Walk(foreign=foreign).model(memoryview(data))
    except _Unfit as unfit:
        raise MalformedBundle(f"{name}: {unfit}") from None


class _Unfit(Exception):
    """The reason to refuse a graph; it never leaves this module."""


class _Walk:
    def __init__(self, *, foreign: bool) -> None:
        self.facts = GraphFacts()
        self.fields = 0
        self.foreign = foreign
        self.places: set[str | None] = set()

    def model(self, data: memoryview) -> GraphFacts:
        graphs = 0
        for number, value in self.read(data):
            if number == MODEL_GRAPH:
                graphs += 1
                self.graph(_bytes(value), depth=1)
            elif number == MODEL_OPSET:
                self.opset(_bytes(value))
            elif number == MODEL_FUNCTIONS and self.foreign:
                self.function(_bytes(value))
            elif number in (MODEL_TRAINING, MODEL_FUNCTIONS):
                raise _Unfit("has functions or training information")
        if graphs != 1:
            raise _Unfit(f"expected one graph, got {graphs}")
        return self.facts

    def opset(self, data: memoryview) -> None:
        fields = dict(self.read(data))
        domain = _bytes(fields.get(OPSET_DOMAIN, memoryview(b"")))
        self.domain(domain)
        default, version = bytes(domain) in DEFAULT_DOMAINS, fields.get(OPSET_VERSION)
        if not isinstance(version, int) or (default and self.facts.opset):
            raise _Unfit("expected one opset of the default domain")
        name = "" if default else _text(domain)
        if name in self.facts.opsets:
            raise _Unfit(f"has two opsets of domain {name!r}")
        self.facts.opsets[name] = version
        if default:
            self.facts.opset = version

    def function(self, data: memoryview) -> None:
        for number, value in self.read(data):
            if number == FUNCTION_NODE:
                self.node(_bytes(value), depth=1)

    def graph(self, data: memoryview, *, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _Unfit(f"graphs are nested deeper than {MAX_DEPTH}")
        for number, value in self.read(data, OF_GRAPH):
            if number == GRAPH_NODE:
                self.node(_bytes(value), depth=depth)
            elif number == GRAPH_INITIALIZER:
                self.initializer(_bytes(value), depth=depth)
            elif number == GRAPH_SPARSE:
                self.sparse(_bytes(value))

    def sparse(self, data: memoryview) -> None:
        """Refuse a sparse tensor whose values or indices are outside the file."""
        if not self.foreign:
            raise _Unfit("has sparse tensors")
        for number, value in self.read(data):
            if number in SPARSE_PARTS and self.external(_bytes(value))[0]:
                raise _Unfit("a sparse tensor points outside the file")

    def node(self, data: memoryview, *, depth: int) -> None:
        self.facts.nodes += 1
        if self.facts.nodes > MAX_NODES:
            raise _Unfit(f"has more than {MAX_NODES} nodes")
        for number, value in self.read(data, OF_NODE):
            if number == NODE_DOMAIN:
                self.domain(_bytes(value))
            elif number == NODE_ATTRIBUTE:
                self.attribute(_bytes(value), depth=depth)

    def attribute(self, data: memoryview, *, depth: int) -> None:
        for number, value in self.read(data, OF_ATTRIBUTE):
            if number in ATTRIBUTE_GRAPHS:
                self.graph(_bytes(value), depth=depth + 1)
            elif number in ATTRIBUTE_TENSORS and self.external(_bytes(value))[0]:
                raise _Unfit("a constant points outside the file")
            elif number in ATTRIBUTE_SPARSE:
                self.sparse(_bytes(value))

    def initializer(self, data: memoryview, *, depth: int) -> None:
        outside, name, location = self.external(data)
        if not outside:
            return
        if depth > 1 or name in self.facts.slots:
            raise _Unfit("a nested or repeated initializer points outside the file")
        if self.foreign and (location is None or location in self.places):
            raise _Unfit("a tensor outside the file has no location of its own")
        self.facts.slots.add(name)
        self.places.add(location)
        self.facts.locations[name] = location or ""

    def external(self, data: memoryview) -> tuple[bool, str, str | None]:
        """Read whether a tensor's data is external, its name, and its location.

        The location is None unless it is the only entry.
        """
        outside, name, entries = False, "", []
        for number, value in self.read(data, OF_TENSOR):
            if number == TENSOR_NAME:
                name = _text(_bytes(value))
            elif number == TENSOR_EXTERNAL:
                outside = True
                entries.append(dict(self.read(_bytes(value))))
            elif number == TENSOR_LOCATION and value:
                outside = True
        if len(entries) != 1 or set(entries[0]) != {ENTRY_KEY, ENTRY_VALUE}:
            return outside, name, None
        key, place = (bytes(_bytes(entries[0][n])) for n in (ENTRY_KEY, ENTRY_VALUE))
        found = place.decode(errors="replace") if key == b"location" else None
        return outside, name, found

    def domain(self, domain: memoryview) -> None:
        if not self.foreign and bytes(domain) not in DEFAULT_DOMAINS:
            raise _Unfit("uses operators outside the default domain")

    def read(
        self, data: memoryview, wanted: Container[int] = EVERY
    ) -> Iterator[tuple[int, int | memoryview]]:
        """Yield the wanted fields of one message: the number, and an integer or bytes.

        Nearly all numbers have one byte, which is read here: this loop is most of the
        time in which a small bundle opens.
        """
        position, end = 0, len(data)
        while position < end:
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise _Unfit(f"has more than {MAX_FIELDS} fields")
            tag = data[position]
            if tag < ONE_BYTE:
                position += 1
            else:
                tag, position = _varint(data, position)
            if not 8 <= tag <= MAX_TAG:  # field numbers start at 1
                raise _Unfit("has an impossible field number")
            kind, number = tag & 7, tag >> 3
            if kind in (BYTES, VARINT):
                if position < end and data[position] < ONE_BYTE:
                    value, position = data[position], position + 1
                else:
                    value, position = _varint(data, position)
                if kind == VARINT:
                    if number in wanted:
                        yield number, value
                    continue
            elif kind in (FIXED32, FIXED64):
                value = 4 if kind == FIXED32 else 8
            else:
                raise _Unfit("is not an ONNX file")
            if value > end - position:
                raise _Unfit("is not an ONNX file, or ends too early")
            if number in wanted:
                yield number, data[position : position + value]
            position += value


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
                raise _Unfit("writes a number in more bytes than necessary")
            return value, position
    raise _Unfit("is not an ONNX file")


def _text(value: memoryview) -> str:
    return bytes(value).decode(errors="replace")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _Unfit("is not an ONNX file")
    return value
