"""Step 6: write a bundle of format 2, tensor by tensor, in one pass over the weights.

All sizes are known before sealing, so the weights are written to their final place at
once, and the members before them at the end. Nothing sealed ever lies on the disk in
the clear. docs/spec/bundle-v2.md.
"""

import hashlib
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from mlguard.bundle import archive2
from mlguard.bundle.archive2 import (
    GRAPH,
    MANIFEST,
    PREPROCESS,
    SEALED_GRAPH,
    SEALED_TABLE,
    TABLE,
    WEIGHTS,
)
from mlguard.bundle.bundle2 import (
    DATA,
    RECIPE,
    checked_graph,
    file_hmac,
    manifest_mac,
    selftest2,
)
from mlguard.bundle.graph_limits import check_graph
from mlguard.bundle.manifest2 import (
    MAX_PLAIN,
    Coverage,
    Facts2,
    Manifest2,
    Member2,
    Provenance2,
    SealFacts2,
    Uncovered,
    share_of,
)
from mlguard.bundle.proofs import selftest_image
from mlguard.bundle.tensor_table import (
    Row,
    check_names,
    lay_out,
    weights_bytes,
    write_table,
)
from mlguard.errors import BundleError
from mlguard.files import fill_new, refuse_existing
from mlguard.keys import ModelSubkeys
from mlguard.sealing import (
    TAG_BYTES,
    FileKey,
    PlainTensor,
    new_salt,
    seal_blob,
    seal_tensor,
)
from mlguard.sealing.file_key import Subkeys


@dataclass(frozen=True)
class Origin:
    """Where a model comes from. A bundle shows recipe and data as keyed hashes only."""

    recipe_sha256: str | None = None
    data_fingerprint: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model2:
    """The contents of a bundle to be written.

    Attributes:
        facts: The exporter's facts about the model.
        graph: ONNX; exactly the tensors of `tensors` and the key slots are initializers
            declared as external data, each with its own location.
        tensors: The weights.
        left: Weights that stay in the graph: name, size and reason.
        preprocess: The keyed transform as ONNX, its key slots empty; None without one.
        origin: Where the model comes from.
    """

    facts: Facts2
    graph: bytes = field(repr=False)
    tensors: Sequence[PlainTensor] = field(repr=False)
    left: Sequence[Uncovered] = ()
    preprocess: bytes | None = field(default=None, repr=False)
    origin: Origin = Origin()


@dataclass(frozen=True)
class FileOwner:
    """The keys of the file's owner: the model key's owner, or a customer.

    Attributes:
        key_id: The public name of the owner's model key.
        protection_id: The public identifier of the protected model, 16 bytes.
        subkeys: The subkeys that transforms are derived from.
        content_key: 32 random bytes for an issued file; None for the owner's own.
    """

    key_id: str
    protection_id: bytes
    subkeys: Subkeys = field(repr=False)
    content_key: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, subkeys: ModelSubkeys) -> "FileOwner":
        """Return the keys of the model key's owner."""
        return cls(subkeys.key_id, subkeys.protection_id, subkeys)


@dataclass(frozen=True)
class WriteBeside:
    """A maker of the members that the manifest does not name.

    Attributes:
        make: Takes the SHA-256 in hex of every member before them, by name, and returns
            `grant.json` and `model.sig`.
    """

    make: Callable[[dict[str, str]], dict[str, bytes]]


def write_bundle2(
    path: Path,
    model: Model2,
    owner: ModelSubkeys | FileOwner,
    *,
    seal: SealFacts2 | None = None,
    beside: WriteBeside | None = None,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write a bundle of format 2 completely or not at all, and never overwrite a file.

    Args:
        path: The bundle to write.
        model: Its contents.
        owner: The keys of its owner; the subkeys of the protected model for the owner's
            own file.
        seal: What is encrypted; everything by default.
        beside: Makes `grant.json` and `model.sig`.
        check: Called with the finished file before it gets its name; if it raises, no
            file is left behind.

    Raises:
        OutputExists: Something is already at the path.
        OutputError: There is no space, or the folder is not writable.
        BundleError: The model does not fit into a bundle.
        MalformedBundle: A bundle cannot hold the graph.
    """
    refuse_existing(path)
    if isinstance(owner, ModelSubkeys):
        owner = FileOwner.of(owner)
    prepared = prepare(model, owner, seal or SealFacts2(), str(path))
    fill_new(path, lambda file: prepared.write(file, beside=beside), check=check)


def bundle2_bytes(
    model: Model2,
    owner: FileOwner,
    *,
    name: str,
    seal: SealFacts2 | None = None,
    beside: WriteBeside | None = None,
) -> bytes:
    """Return the bytes of a bundle, as `write_bundle2` writes it, for any owner.

    Args:
        model: Its contents.
        owner: The keys of its owner.
        name: Its name in a refusal.
        seal: What is encrypted; everything by default.
        beside: Makes `grant.json` and `model.sig`.

    Raises:
        BundleError: The model does not fit into a bundle.
        MalformedBundle: A bundle cannot hold the graph.
    """
    file = io.BytesIO()
    prepare(model, owner, seal or SealFacts2(), name).write(file, beside=beside)
    return file.getvalue()


def prepare(model: Model2, owner: FileOwner, seal: SealFacts2, name: str) -> "Prepared":
    """Check the contents of a bundle, before anything is written.

    Raises:
        BundleError: The model does not fit into a bundle.
        MalformedBundle: A bundle cannot hold the graph.
    """
    rows = lay_out([tensor.header for tensor in model.tensors])
    try:
        check_names([row.header for row in rows])
    except ValueError as problem:
        raise BundleError(f"{name}: {problem}") from None
    checked_graph(model.graph, rows, model.facts, name=name)
    keyed = bool(model.facts.keyed.methods)
    if keyed != (model.preprocess is not None):
        raise ValueError(
            "a keyed transform needs its graph, and a graph needs its transform"
        )
    if model.preprocess is not None:
        check_graph(model.preprocess, name=f"{name}: {PREPROCESS}")
    return Prepared(model, owner, seal, name, rows)


@dataclass(frozen=True)
class Prepared:
    """A checked bundle, ready to be written."""

    model: Model2
    owner: FileOwner
    seal: SealFacts2
    name: str
    rows: list[Row]

    def write(
        self,
        file: BinaryIO,
        *,
        beside: WriteBeside | None = None,
    ) -> None:
        """Write the whole bundle into an empty, seekable file."""
        salt = new_salt()
        key = self._file_key(salt)
        start = self._weights_start(key, salt)
        written = _Counted(file)
        tags = self._write_weights(written, key, start)
        rows = [
            replace(row, tags=tag) for row, tag in zip(self.rows, tags, strict=True)
        ]
        blobs = {
            member: seal_blob(key, member, content, hidden=hidden)
            for member, (content, hidden) in self._plain(rows).items()
        }
        manifest = self._manifest(key, salt, blobs, crc=written.crc)
        contents = {name: blob for name, (blob, _) in blobs.items()}
        contents[MANIFEST] = manifest.to_bytes()
        more = {}
        if beside is not None:
            hashes = {
                name: hashlib.sha256(content).hexdigest()
                for name, content in contents.items()
            }
            more = beside.make({**hashes, WEIGHTS: written.sha256.hexdigest()})
        self._write_rest(file, manifest, contents, more)

    def _file_key(self, salt: bytes) -> FileKey:
        if self.owner.content_key is not None:
            return FileKey(self.owner.content_key, salt)
        return FileKey.of_owner(self.owner.subkeys, salt)

    def _plain(self, rows: list[Row]) -> dict[str, tuple[bytes, bool]]:
        """Return each member but the weights: plain bytes, and whether to hide them."""
        hidden = self.seal.graph
        table, graph = (SEALED_TABLE, SEALED_GRAPH) if hidden else (TABLE, GRAPH)
        plain = {table: (write_table(rows), hidden), graph: (self.model.graph, hidden)}
        if self.model.preprocess is not None:
            plain[PREPROCESS] = (self.model.preprocess, False)
        for member, (content, _) in plain.items():
            if len(content) > archive2.MEMBERS[member]:
                raise BundleError(
                    f"{self.name}: {member} would have {len(content)} bytes, at most "
                    f"{archive2.MEMBERS[member]} are allowed"
                )
        return plain

    def _weights_start(self, key: FileKey, salt: bytes) -> int:
        """Return where the weights begin: neither sealing nor tags change the sizes."""
        unsealed = {
            member: (content, bytes(TAG_BYTES))
            for member, (content, _) in self._plain(self.rows).items()
        }
        manifest = self._manifest(key, salt, unsealed, crc=0)
        content = manifest.to_bytes()
        members = archive2.place(manifest.members(content, zlib.crc32(content)))
        return next(one.starts_at for one in members if one.name == WEIGHTS)

    def _manifest(
        self,
        key: FileKey,
        salt: bytes,
        blobs: dict[str, tuple[bytes, bytes]],
        *,
        crc: int,
    ) -> Manifest2:
        files = {
            member: Member2(
                size=len(content), crc32=f"{zlib.crc32(content):08x}", tag=tag.hex()
            )
            for member, (content, tag) in blobs.items()
        }
        size = weights_bytes(self.rows)
        files[WEIGHTS] = Member2(size=size, crc32=f"{crc:08x}", tag=None)
        manifest = Manifest2(
            **dict(self.model.facts),
            protection_id=self.owner.protection_id.hex(),
            key_id=self.owner.key_id,
            salt=salt.hex(),
            key_commitment=key.commitment.hex(),
            seal=self.seal,
            coverage=self._coverage(),
            provenance=self._provenance(key),
            files=files,
            selftest=self._selftest(key),
            issued=self.owner.content_key is not None,
            mac="0" * 64,
        )
        mac = manifest_mac(key, manifest)
        manifest = manifest.model_copy(update={"mac": mac})
        if len(manifest.to_bytes()) > archive2.MEMBERS[MANIFEST]:
            raise BundleError(f"{self.name}: {MANIFEST} would be too large")
        return manifest

    def _coverage(self) -> Coverage:
        inside = sum(row.header.size_bytes for row in self.rows)
        total = inside + sum(one.size for one in self.model.left)
        plain = [] if self.seal.graph else list(self.model.left)
        if not self.seal.weights:
            reason = "the weights are not sealed"
            plain += [
                Uncovered(
                    name=row.header.name, size=row.header.size_bytes, reason=reason
                )
                for row in self.rows
            ]
        plain.sort(key=lambda one: -one.size)
        covered = total - sum(one.size for one in plain)
        return Coverage(
            size=total,
            covered=covered,
            share=share_of(covered, total),
            plain=tuple(plain[:MAX_PLAIN]),
        )

    def _provenance(self, key: FileKey) -> Provenance2:
        origin = self.model.origin

        def keyed(label: str, text: str | None) -> str | None:
            return file_hmac(key, label, text.encode()) if text else None

        return Provenance2(
            recipe=keyed(RECIPE, origin.recipe_sha256),
            data=keyed(DATA, origin.data_fingerprint),
            versions=origin.versions,
        )

    def _selftest(self, key: FileKey) -> str | None:
        spec = self.model.facts.keyed
        if not spec.methods:
            return None
        transform = spec.derive(cast(ModelSubkeys, self.owner.subkeys)).image
        if transform is None:
            raise AssertionError("methods without a transform")
        values = transform.values(selftest_image(spec.block_size))
        return selftest2(key, values)

    def _write_weights(
        self, sink: "_Counted", key: FileKey, start: int
    ) -> list[tuple[bytes, ...]]:
        sink.seek(start)
        tags = []
        for index, (row, tensor) in enumerate(
            zip(self.rows, self.model.tensors, strict=True)
        ):
            sink.write(bytes(row.offset - sink.count))
            data = _bytes_of(tensor.data)
            hidden = self.seal.weights
            tags.append(seal_tensor(key, index, row.header, data, sink, hidden=hidden))  # type: ignore[arg-type]
        return tags

    def _write_rest(
        self,
        file: BinaryIO,
        manifest: Manifest2,
        contents: dict[str, bytes],
        more: dict[str, bytes],
    ) -> None:
        content = contents[MANIFEST]
        sizes = manifest.members(content, zlib.crc32(content))
        sizes += [(name, len(one), zlib.crc32(one)) for name, one in more.items()]
        contents = contents | more
        members = archive2.place(sizes)
        for member in members:
            file.seek(member.header_at)
            file.write(member.header())
            if member.name in contents:
                file.write(contents[member.name])
        file.seek(members[-1].ends_at)
        file.write(archive2.directory(members))


class _Counted:
    """A file to write to, with checksum and hash of the bytes written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.count, self.crc = file, 0, 0
        self.sha256 = hashlib.sha256()

    def seek(self, at: int) -> None:
        self._file.seek(at)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.crc = zlib.crc32(data, self.crc)
        self.sha256.update(data)
        self.count += len(data)


def _bytes_of(data: object) -> memoryview:
    """Return a tensor's bytes as one contiguous buffer."""
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    view = memoryview(data)  # type: ignore[arg-type]
    return view.cast("B") if view.nbytes else memoryview(b"")


__all__ = [
    "FileOwner",
    "Model2",
    "Origin",
    "WriteBeside",
    "bundle2_bytes",
    "write_bundle2",
]
