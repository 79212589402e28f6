"""What a forger can put together from bundles of one key: nothing that opens."""

import io
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, load_model_from_string

from mlguard.bundle import (
    Bundle2,
    FileOwner,
    Model2,
    archive2,
    bundle2_bytes,
    bundle2_of,
    write2,
)
from mlguard.bundle.tensor_table import parse_table
from mlguard.errors import BundleError, MalformedBundle, TamperedBundle
from mlguard.runtime import Session
from mlguard.sealing import FileKey, PlainTensor, seal_blob
from tests.bundles import KEY
from tests.bundles2 import (
    SUBKEYS,
    convolution_graph,
    graph_of,
    model2,
    outside,
    shuffled,
    small2_bytes,
)
from tests.runtime.test_session2 import tensors_model

OWNER = FileOwner.of(SUBKEYS)
ONE, OTHER = (small2_bytes(image=shuffled()) for _ in range(2))
MEMBERS = ("tensors.json.enc", "graph.onnx.enc", "preprocess.onnx", "weights.bin")


def bundle(data: bytes) -> Bundle2:
    return bundle2_of(data, name="x")


def opened(data: bytes) -> dict[str, bytes]:
    unlocked = bundle(data).unlock(KEY)
    if "preprocess.onnx" in unlocked.bundle.members:
        unlocked.preprocess()
    rows = unlocked.graph().rows
    return {row.header.name: bytes(found) for row, found in unlocked.tensors(rows)}


def with_member(data: bytes, name: str, content: bytes, *, signed: bool) -> bytes:
    """Another content of one member, sizes and checksums put right.

    Args:
        data: A bundle.
        name: The member.
        content: As long as the old one.
        signed: Whether the forger lets the manifest's MAC stand as it was; a CRC that
            follows the new content breaks it, so he leaves the old one there.
    """
    found = bundle(data)
    member = found.members[name]
    assert len(content) == member.size
    changed = data[: member.starts_at] + content + data[member.ends_at :]
    if signed:
        return changed
    files = found.manifest.files[name].model_copy(
        update={"crc32": f"{zlib.crc32(content):08x}"}
    )
    manifest = found.manifest.model_copy(
        update={"files": found.manifest.files | {name: files}}
    )
    own = manifest.to_bytes()
    members = archive2.place(manifest.members(own, zlib.crc32(own)))
    contents = {one: found.read(one) for one in MEMBERS}
    contents |= {"manifest.json": own, name: content}
    out = io.BytesIO()
    for one in members:
        out.seek(one.header_at)
        out.write(one.header() + contents[one.name])
    out.write(archive2.directory(members))
    return out.getvalue()


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("signed", [True, False], ids=["old manifest", "new manifest"])
def test_no_member_of_another_export_of_the_same_model_fits(
    name: str, signed: bool
) -> None:
    foreign = bundle(OTHER).read(name)
    if name == "preprocess.onnx":  # of both files the same, and it holds no secret
        foreign = foreign[:-1] + bytes([foreign[-1] ^ 1])
    forged = with_member(ONE, name, foreign, signed=signed)
    with pytest.raises(BundleError, match=r"x: |x "):
        opened(forged)
    assert opened(ONE) == opened(OTHER)


def test_two_tensors_of_one_type_and_shape_cannot_be_swapped() -> None:
    one, other = (np.full(16, value, np.float32) for value in (1, 2))
    pairs = [outside("a", one), outside("b", other)]
    model = replace(
        model2(image=None, task=None),
        tensors=[data for _, data in pairs],
        graph=_sum_graph([slot for slot, _ in pairs]),
    )
    data = bundle2_bytes(model, OWNER, name="x")
    start = bundle(data).members["weights.bin"].starts_at
    first, second = data[start : start + 64], data[start + 64 : start + 128]
    assert opened(data) == {"a": one.tobytes(), "b": other.tobytes()}
    swapped = data[:start] + second + first + data[start + 128 :]
    with pytest.raises(
        TamperedBundle, match="tensor 'a' was changed after it was sealed"
    ):
        opened(swapped)


def _sum_graph(slots: list) -> bytes:
    return graph_of(
        [
            helper.make_node("Add", ["a", "b"], ["c"]),
            helper.make_node("Add", ["pixels", "c"], ["logits"]),
        ],
        [helper.make_tensor_value_info("pixels", 1, [16])],
        [helper.make_tensor_value_info("logits", 1, [16])],
        slots,
    )


def insiders(change_table) -> bytes:
    """What someone who has the key could write: another table under right MACs."""
    real = write2.write_table
    try:
        write2.write_table = lambda rows: change_table(real(rows))
        return bundle2_bytes(model2(), OWNER, name="x")
    finally:
        write2.write_table = real


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda table: table.replace(b'"w"', b'"v"'),
            "tensor 'v' is not in graph.onnx",
        ),
        (
            lambda table: table.replace(b'"type":1', b'"type":6', 1),
            "was changed after it was sealed",
        ),
        (
            lambda table: table.replace(b"[4,3,3,3]", b"[3,4,3,3]"),
            "was changed after it was sealed",
        ),
        (
            lambda table: table.replace(b"[4,3,3,3]", b"[4,3,3,9]"),
            "does not match its tensors",
        ),
        (
            lambda table: table.replace(b'"type":1', b'"type":8', 1),
            "type 8 cannot be sealed",
        ),
        (lambda table: table.replace(b"[4]", b"[-4]"), "negative size"),
        (lambda table: table.replace(b"[4]", b"4"), "of the wrong type"),
        (lambda table: table.replace(b"[4]", b"[true]"), "of the wrong type"),
        (lambda table: table.replace(b"[4]", b"[ 4]"), "not in its canonical spelling"),
        (lambda table: table.replace(b"[4]", b"[99999999999999]"), "too large|size"),
        (lambda table: table.replace(b'"b"', b'"w"'), "two tensors have one name"),
        (lambda table: table.replace(b'"tags"', b'"tag"'), "expected .* every tensor"),
        (lambda table: b"[" * 100_000, "table of tensors"),
        (lambda table: b"{}", "expected a list"),
        (lambda table: b"\xff", "table of tensors"),
    ],
    ids=range(15),
)
def test_a_table_that_lies_is_refused_even_from_who_has_the_key(
    change, words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        opened(insiders(change))


def test_tensors_outside_that_nobody_names_are_refused() -> None:
    graph, tensors = convolution_graph()
    with pytest.raises(MalformedBundle, match="tensor 'w' has no bytes"):
        bundle2_bytes(Model2(model2().facts, graph, tensors[1:]), OWNER, name="x")
    extra = PlainTensor("extra", 1, (1,), bytes(4))
    with pytest.raises(MalformedBundle, match="tensor 'extra' is not in graph"):
        bundle2_bytes(Model2(model2().facts, graph, [*tensors, extra]), OWNER, name="x")


def test_a_graph_that_points_to_a_file_never_reaches_onnxruntime() -> None:
    """Two tensors of one location, or an offset into a file of the reader's disk."""
    model = model2()
    for edit, words in (
        (
            lambda t: t.external_data.add(key="offset", value="0"),
            "no location of its own",
        ),
        (lambda t: t.ClearField("external_data"), "no location of its own"),
        (lambda t: t.ClearField("name"), "has no bytes|is not in graph"),
    ):
        proto = load_model_from_string(model.graph)
        edit(proto.graph.initializer[0])
        hostile = replace(model, graph=proto.SerializeToString())
        with pytest.raises(MalformedBundle, match=words):
            bundle2_bytes(hostile, OWNER, name="x")
    proto = load_model_from_string(model.graph)
    first, second = proto.graph.initializer[0], proto.graph.initializer[1]
    second.external_data[0].value = first.external_data[0].value
    with pytest.raises(MalformedBundle, match="no location of its own"):
        bundle2_bytes(replace(model, graph=proto.SerializeToString()), OWNER, name="x")


def test_padding_between_tensors_hides_nothing() -> None:
    model = tensors_model(
        [], [], [], {"a": (np.zeros(1, "f4"),), "b": (np.zeros(1, "f4"),)}
    )
    graph = graph_of(
        [],
        [],
        [],
        [outside(name, np.zeros(1, "f4"))[0] for name in "ab"],
    )
    data = bytearray(bundle2_bytes(replace(model, graph=graph), OWNER, name="x"))
    start = bundle(bytes(data)).members["weights.bin"].starts_at
    opened(bytes(data))
    data[start + 30] = 1
    with pytest.raises(TamperedBundle, match=r"weights\.bin was changed"):
        opened(bytes(data))


def test_a_sealed_member_says_nothing_of_a_plain_one() -> None:
    """A thief cannot have the file encrypt, or vouch for, bytes of his choosing."""
    key = FileKey.of_owner(SUBKEYS, bytes(32))
    hidden, _ = seal_blob(key, "graph.onnx", bytes(32))
    other, _ = seal_blob(key, "graph.onnx.enc", bytes(32))
    assert hidden != other


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, len(ONE)), st.integers(0, 60), st.binary(max_size=60)),
        min_size=1,
        max_size=4,
    )
)
def test_no_damage_escapes_as_anything_but_a_refusal(
    edits: list[tuple[int, int, bytes]],
) -> None:
    data = ONE
    for start, removed, inserted in edits:
        data = data[:start] + inserted + data[start + removed :]
    try:
        opened(data)
    except BundleError:
        return
    assert data == ONE


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_table_are_a_table_or_a_refusal(data: bytes) -> None:
    try:
        parse_table(data, name="x")
    except MalformedBundle:
        return


def test_a_session_of_one_file_tells_nothing_of_another() -> None:
    """Sessions share no state: a wrong file after a right one is still refused."""
    Session(bundle(ONE), KEY)
    forged = with_member(
        ONE, "weights.bin", bundle(OTHER).read("weights.bin"), signed=True
    )
    with pytest.raises(
        TamperedBundle, match="tensor 'w' was changed after it was sealed"
    ):
        Session(bundle(forged), KEY)
