"""Step 6: write a bundle of format 2, tensor by tensor, in one pass over the weights.

Everything has a size that is known before it is sealed, so the weights go where they
belong at once, and what stands before them is filled in at the end. Nothing plain ever
lies on the disk. docs/spec/bundle-v2.md.
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
    """Where a model comes from. Of recipe and data a bundle shows keyed hashes only."""

    recipe_sha256: str | None = None
    data_fingerprint: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model2:
    """What goes into a bundle.

    Attributes:
        facts: What the exporter knows about the model.
        graph: ONNX; each tensor of `tensors`, and each key slot, is an initializer
            declared as external data with a location of its own, and no other is.
        tensors: The weights.
        left: Weights that stay in the graph, by name, size and why.
        preprocess: The keyed transform as ONNX, its key slots empty; where the facts
            have one.
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
    """Whose file it becomes: the model key's owner's, or a customer's.

    Attributes:
        key_id: The public name of the owner's model key.
        protection_id: The public identifier of the protected model, 16 bytes.
        subkeys: What transforms are derived from.
        content_key: 32 random bytes of an issued file; None in the owner's own.
    """

    key_id: str
    protection_id: bytes
    subkeys: Subkeys = field(repr=False)
    content_key: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, subkeys: ModelSubkeys) -> "FileOwner":
        """The owner of the model key."""
        return cls(subkeys.key_id, subkeys.protection_id, subkeys)


@dataclass(frozen=True)
class WriteBeside:
    """Makes the members that the manifest does not name.

    Attributes:
        make: Given SHA-256 in hex of every member before them, by name, gives
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
    """Write a bundle of format 2 whole or not at all, and never over something else.

    Args:
        path: The bundle to write.
        model: What goes into it.
        owner: Whose file it becomes: the subkeys of the protected model for the
            owner's own.
        seal: What is encrypted; everything unless said otherwise.
        beside: Makes `grant.json` and `model.sig`.
        check: Called with the finished file before it gets its name; what it raises
            leaves nothing behind.

    Raises:
        OutputExists: There is something at the path.
        OutputError: There is no space, or the folder is not writable.
        BundleError: The model does not fit into a bundle.
        MalformedBundle: The graph is not one that a bundle can hold.
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
    """As `write_bundle2`, in memory and for any owner.

    Args:
        model: What goes into it.
        owner: Whose file it becomes.
        name: What to call it in a refusal.
        seal: What is encrypted; everything unless said otherwise.
        beside: Makes `grant.json` and `model.sig`.

    Raises:
        BundleError: The model does not fit into a bundle.
        MalformedBundle: The graph is not one that a bundle can hold.
    """
    file = io.BytesIO()
    prepare(model, owner, seal or SealFacts2(), name).write(file, beside=beside)
    return file.getvalue()


def prepare(model: Model2, owner: FileOwner, seal: SealFacts2, name: str) -> "Prepared":
    """Check what goes into a bundle, before anything is written.

    Raises:
        BundleError: The model does not fit into a bundle.
        MalformedBundle: The graph is not one that a bundle can hold.
    """
    rows = lay_out([tensor.header for tensor in model.tensors])
    try:
        check_names([row.header for row in rows])
    except ValueError as problem:
        raise BundleError(f"{name}: {problem}") from None
    checked_graph(model.graph, rows, model.facts, name=name)
    keyed = bool(model.facts.keyed.methods)
    if keyed != (model.preprocess is not None):
        raise ValueError("a keyed transform and its graph go together")
    if model.preprocess is not None:
        check_graph(model.preprocess, name=f"{name}: {PREPROCESS}")
    return Prepared(model, owner, seal, name, rows)


@dataclass(frozen=True)
class Prepared:
    """A bundle that is about to be written."""

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
        """Write the whole bundle. The file is empty and can be written anywhere."""
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
        """Every member that is no tensor: its plain bytes, and whether it is hidden."""
        hidden = self.seal.graph
        table, graph = (SEALED_TABLE, SEALED_GRAPH) if hidden else (TABLE, GRAPH)
        plain = {table: (write_table(rows), hidden), graph: (self.model.graph, hidden)}
        if self.model.preprocess is not None:
            plain[PREPROCESS] = (self.model.preprocess, False)
        for member, (content, _) in plain.items():
            if len(content) > archive2.MEMBERS[member]:
                raise BundleError(
                    f"{self.name}: {member} would have {len(content)} bytes, "
                    f"at most {archive2.MEMBERS[member]} fit"
                )
        return plain

    def _weights_start(self, key: FileKey, salt: bytes) -> int:
        """Where the weights begin: sealing keeps sizes, and any tag is as long."""
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
    """A file that is written to, and checksum and hash of what was."""

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
    """A tensor's bytes as one run, whatever buffer they are in."""
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
