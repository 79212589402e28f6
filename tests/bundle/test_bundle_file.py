"""The file: what a reader accepts, and the exact refusal for everything else."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlguard.bundle import archive, read_bundle, write_bundle
from mlguard.bundle.bundle import parse_bundle
from mlguard.errors import (
    BundleError,
    MalformedBundle,
    MlguardError,
    OutputError,
    TamperedBundle,
)
from tests.bundles import small_bundle

CONTENT = small_bundle().to_bytes()
MEMBERS = archive.unpack(io.BytesIO(CONTENT), len(CONTENT), name="small")


def parse(data: bytes) -> object:
    return parse_bundle(io.BytesIO(data), len(data), name="small")


def zipped(*names: str, method: int = 0, time: int = 0) -> bytes:
    """A ZIP just as the specification fixes it, but of these members."""
    body, directory = b"", b""
    for name in names:
        content = MEMBERS.get(name, b"?")
        packed = zlib.compress(content)[2:-4] if method else content
        sizes = (zlib.crc32(content), len(packed), len(content), len(name), 0)
        common = struct.pack("<5H3I2H", 10, 0, method, time, 0x21, *sizes)
        where = struct.pack("<3H2I", 0, 0, 0, 0, len(body))
        directory += b"PK\1\2" + struct.pack("<H", 20) + common + where + name.encode()
        body += b"PK\3\4" + common + name.encode() + packed
    counts = (0, 0, len(names), len(names), len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + struct.pack("<4H2IH", *counts)


def test_a_bundle_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "small.mlgb"
    bundle = small_bundle()
    write_bundle(path, bundle)
    read = read_bundle(path)
    assert (read.manifest, read.preprocess, read.model, read.slots) == (
        bundle.manifest,
        bundle.preprocess,
        bundle.model,
        {"shf.order"},
    )
    assert path.read_bytes() == CONTENT == read.to_bytes()


def test_the_file_follows_the_specification() -> None:
    """`zipped` is the layout of section 1, written out a second time."""
    assert zipped(*MEMBERS) == CONTENT


def test_any_zip_program_can_open_a_bundle() -> None:
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == MEMBERS


def test_every_flipped_bit_is_refused() -> None:
    data = bytearray(CONTENT)
    accepted = []
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        try:
            parse(bytes(data))
        except BundleError:
            pass
        else:
            accepted.append(bit)
        data[bit // 8] ^= 1 << bit % 8
    assert accepted == []
    parse(bytes(data))  # and the file itself is not refused


def test_every_truncation_is_refused() -> None:
    for size in range(len(CONTENT)):
        with pytest.raises(MalformedBundle, match=r"ends (within|before)"):
            parse(CONTENT[:size])


@pytest.mark.parametrize("extra", [b"\0", b"PK\5\6", CONTENT])
def test_bytes_after_the_end_are_refused(extra: bytes) -> None:
    with pytest.raises(MalformedBundle, match="bytes after its end"):
        parse(CONTENT + extra)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends before manifest.json"),
        (b"\x80\x04K\x01.", "expected manifest.json, found something"),
        (zipped("model.onnx", "preprocess.onnx", "manifest.json"), "another member"),
        (zipped("manifest.json", "manifest.json", "model.onnx"), "another member"),
        (zipped(*MEMBERS, "../../evil"), "another member"),
        (zipped("manifest.json", "preprocess.onnx"), "expected model.onnx"),
        (zipped(*MEMBERS, method=8), "manifest.json is compressed"),
        (zipped(*MEMBERS, time=1), "manifest.json has an unexpected ZIP header"),
    ],
    ids=["empty", "pickle", "order", "twice", "extra", "missing", "compressed", "time"],
)
def test_another_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedBundle, match=reason):
        parse(data)


def test_an_absurd_size_is_refused_before_anything_is_read() -> None:
    class Counting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 <= size < 1000
            return super().read(size)

    header = bytearray(CONTENT[:100])
    header[18:26] = b"\xff" * 8  # both sizes of manifest.json
    with pytest.raises(MalformedBundle, match="announces 4294967295 bytes"):
        parse_bundle(Counting(bytes(header)), 1 << 31, name="small")


def test_a_size_beyond_the_end_is_refused() -> None:
    header = bytearray(CONTENT)
    header[18:26] = (500_000).to_bytes(4, "little") * 2
    with pytest.raises(MalformedBundle, match=r"ends within manifest\.json"):
        parse(bytes(header))


def test_a_file_larger_than_any_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.mlgb"
    path.touch()
    os.truncate(path, archive.MAX_BUNDLE_BYTES + 1)  # sparse, takes no space
    with pytest.raises(MalformedBundle, match="bytes, expected at most"):
        read_bundle(path)


def test_facts_larger_than_a_manifest_are_refused() -> None:
    with pytest.raises(BundleError, match=r"manifest\.json would have \d+ bytes, at m"):
        small_bundle(licence="a" * archive.MEMBERS["manifest.json"])


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot read bundle .*none\.mlgb: No such"):
        read_bundle(tmp_path / "none.mlgb")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"not a regular file|Is a directory"):
        read_bundle(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mlgb")
    with pytest.raises(MalformedBundle, match="not a regular file"):
        read_bundle(tmp_path / "pipe.mlgb")


@pytest.mark.parametrize("graph", ["preprocess.onnx", "model.onnx"])
def test_a_graph_put_in_place_of_another_is_tampering(graph: str) -> None:
    members = MEMBERS | {graph: MEMBERS[graph] + b"\x5a\0"}
    with pytest.raises(TamperedBundle, match=f"{graph} does not match its SHA-256"):
        parse(archive.pack(members))


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_bundle(tmp_path / "small.mlgb", small_bundle())
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 40), st.binary()),
        min_size=1,
        max_size=4,
    )
)
def test_no_damage_escapes_as_anything_but_a_refusal(
    edits: list[tuple[int, int, bytes]],
) -> None:
    data = CONTENT
    for start, removed, inserted in edits:
        data = data[:start] + inserted + data[start + removed :]
    try:
        parse(data)
    except MlguardError:
        return
    assert data == CONTENT


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(sorted(MEMBERS)))
def test_hostile_members_are_refused_in_a_sound_archive(
    content: bytes, member: str
) -> None:
    with pytest.raises(BundleError, match="small"):
        parse(archive.pack(MEMBERS | {member: content}))


def test_a_text_file_is_called_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "notes.mlgb").write_text("hello")
    with pytest.raises(MalformedBundle, match=r"notes\.mlgb is not a bundle"):
        read_bundle(tmp_path / "notes.mlgb")
