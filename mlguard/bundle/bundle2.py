"""Step 6: read a bundle of format 2, as in docs/spec/bundle-v2.md.

Without a key, only the manifest is read. With one, everything is authenticated before
it is parsed, and the bytes authenticated are the bytes used: the file stays open, and
no byte of it is read twice.
"""

import hashlib
import hmac
import io
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import archive2
from mlguard.bundle.archive2 import GRANT, PREPROCESS, SIGNATURE, WEIGHTS, Member
from mlguard.bundle.graph_limits import check_graph
from mlguard.bundle.manifest import slots_of
from mlguard.bundle.manifest2 import Facts2, Manifest2, parse_manifest2
from mlguard.bundle.tensor_table import ALIGNMENT, Row, parse_table, weights_bytes
from mlguard.errors import (
    BundleError,
    MalformedBundle,
    TamperedBundle,
    TamperedTensors,
    WrongKey,
)
from mlguard.keys import ModelKey
from mlguard.sealing import FileKey, open_blob, open_tensor
from mlguard.sealing.file_key import Subkeys

MANIFEST_MAC, SELFTEST = "bundle/manifest", "bundle/selftest"  # labels of the file key
RECIPE, DATA = "bundle/recipe", "bundle/data"


class FileSecrets(Protocol):
    """The secrets that open one issued file: its key, and the subkeys that it needs."""

    @property
    def key_id(self) -> str:
        """The public name of the owner's model key."""

    @property
    def protection_id(self) -> bytes:
        """The public identifier of the protected model, 16 bytes."""

    @property
    def content_key(self) -> bytes:
        """The 32-byte file key."""

    def derive(self, use: str) -> bytes:
        """Return the 32-byte subkey of one use."""


Key = ModelKey | FileSecrets


class Bundle2:
    """A bundle of format 2. It holds no key.

    Attributes:
        name: The path it was read from, or its name in a refusal.
        manifest: Everything that is not the model.
        members: Where each member lies, by name.
    """

    def __init__(self, file: BinaryIO, size: int, *, name: str) -> None:
        """Read the manifest, and find the members that it names, without reading them.

        Args:
            file: The bundle; it is closed when this object goes.
            size: Its size in bytes.
            name: The name of the file in a refusal.

        Raises:
            MalformedBundle: The file does not follow the specification.
        """
        weakref.finalize(self, file.close)
        self.name, self._file, self._size = name, file, size
        content = archive2.read_first(file, size, name=name)
        self.manifest: Manifest2 = parse_manifest2(content, name=name)
        self.digest = hashlib.sha256(content).hexdigest()
        crc = zlib.crc32(content)
        named = archive2.place(self.manifest.members(content, crc))
        self.members = archive2.read_members(file, size, named, name=name)

    @property
    def sealed(self) -> bool:
        """Whether the model can be read only with the key."""
        return self.manifest.seal.weights

    @property
    def grant(self) -> bytes | None:
        """The member `grant.json` of an issued bundle."""
        return self.read(GRANT) if GRANT in self.members else None

    @property
    def signature(self) -> bytes | None:
        """The member `model.sig` of a signed bundle."""
        return self.read(SIGNATURE) if SIGNATURE in self.members else None

    def read(self, member: str) -> bytes:
        """Return a member's bytes as they lie in the file. Only damage is noticed.

        Raises:
            MalformedBundle: Its checksum does not match.
        """
        return archive2.read_member(
            self._file, self.members[member], self._size, name=self.name
        )

    def signed_parts(self) -> Iterator[tuple[str, int, BinaryIO]]:
        """Return name, size and content of every member but the signature, in order."""
        for member in self.members.values():
            if member.name != SIGNATURE:
                self._file.seek(member.starts_at)
                yield member.name, member.size, self._file

    def unlock(self, key: Key) -> "Unlocked":
        """Check a key against the manifest, and the manifest against the key.

        Raises:
            WrongKey: The bundle was made for another key; both ids are named.
            TamperedBundle: The key is correct, but the file was changed since.
        """
        about, name = self.manifest, self.name
        if key.key_id != about.key_id:
            raise WrongKey(
                f"{name} was made for key {about.key_id}, got key {key.key_id}"
            )
        model = bytes.fromhex(about.protection_id)
        subkeys: Subkeys
        if isinstance(key, ModelKey):
            if about.issued:
                raise WrongKey(
                    f"{name} was issued to a customer; the model key does not open it",
                    hint="open the bundle that it was issued from",
                )
            subkeys = key.for_model(model)
            file_key = FileKey.of_owner(subkeys, bytes.fromhex(about.salt))
        else:
            if key.protection_id != model or not about.issued:
                raise WrongKey(f"{name} is not the file that this grant was made for")
            subkeys = key
            file_key = FileKey(key.content_key, bytes.fromhex(about.salt))
        try:
            file_key.check(bytes.fromhex(about.key_commitment), name=name)
        except WrongKey:
            raise TamperedBundle(
                f"{name}: its key commitment does not match the key"
            ) from None
        if not hmac.compare_digest(manifest_mac(file_key, about), about.mac):
            raise TamperedBundle(
                f"{name}: manifest.json was changed after it was written"
            )
        return Unlocked(self, file_key, subkeys)


@dataclass(frozen=True)
class Unlocked:
    """A bundle whose manifest was authenticated, ready to be opened.

    Attributes:
        bundle: The bundle.
        file_key: The key of this file.
        subkeys: The subkeys that transforms are derived from.
    """

    bundle: Bundle2
    file_key: FileKey = field(repr=False)
    subkeys: Subkeys = field(repr=False)

    def blob(self, member: str, *, hidden: bool) -> bytes:
        """Open a member that is not a tensor.

        Raises:
            TamperedBundle: It was changed after the owner wrote it.
        """
        bundle = self.bundle
        tag = bytes.fromhex(bundle.manifest.files[member].tag or "")
        content, name = bundle.read(member), bundle.name
        try:
            return open_blob(
                self.file_key, member, content, tag, name=name, hidden=hidden
            )
        except TamperedTensors as refusal:
            raise TamperedBundle(str(refusal)) from None

    def graph(self) -> "Graph":
        """Open the graph and the table of its tensors.

        Raises:
            TamperedBundle: They were changed after the owner wrote them.
            MalformedBundle: A bundle cannot hold such ones.
        """
        about, name = self.bundle.manifest, self.bundle.name
        table = self.blob(about.table_member, hidden=about.seal.graph)
        rows = parse_table(table, name=name)
        if weights_bytes(rows) != about.files[WEIGHTS].size:
            raise MalformedBundle(
                f"{name}: the size of {WEIGHTS} does not match its tensors"
            )
        content = self.blob(about.graph_member, hidden=about.seal.graph)
        return checked_graph(content, rows, about, name=name)

    def preprocess(self) -> bytes:
        """The keyed transform as ONNX, its key slots empty.

        Raises:
            TamperedBundle: It was changed after the owner wrote it.
            MalformedBundle: A bundle cannot hold such a transform.
        """
        content = self.blob(PREPROCESS, hidden=False)
        check_graph(content, name=f"{self.bundle.name}: {PREPROCESS}")
        return content

    def tensors(self, rows: list[Row]) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
        """Open the tensors one by one, in the file's order.

        A tensor is yielded only after all of it was authenticated. Nothing of it is
        kept here, so the peak of memory is one tensor and whatever the caller keeps.

        Raises:
            TamperedBundle: A tensor was changed after the owner wrote it.
        """
        bundle, at = self.bundle, 0
        place = bundle.members[WEIGHTS].starts_at
        for index, row in enumerate(rows):
            self._padding(place + at, row.offset - at)
            into = np.empty(row.header.size_bytes, dtype=np.uint8)
            self._open(index, row, place + row.offset, into)
            at = row.ends_at
            yield row, into

    def _open(self, index: int, row: Row, at: int, into: NDArray[np.uint8]) -> None:
        bundle = self.bundle
        file: BinaryIO = bundle._file
        file.seek(at)
        options: dict[str, Any] = {"hidden": bundle.manifest.seal.weights}
        try:
            open_tensor(
                self.file_key,
                index,
                row.header,
                file,
                into,
                row.tags,
                name=bundle.name,
                **options,
            )
        except TamperedTensors as refusal:
            raise TamperedBundle(str(refusal)) from None

    def _padding(self, at: int, size: int) -> None:
        """Refuse anything but zeros between two tensors."""
        file: BinaryIO = self.bundle._file
        file.seek(at)
        if size >= ALIGNMENT or file.read(size) != bytes(size):
            raise TamperedBundle(f"{self.bundle.name}: {WEIGHTS} was changed")


@dataclass(frozen=True)
class Graph:
    """A graph without its weights.

    Attributes:
        content: ONNX.
        rows: The tensors that belong to it.
        locations: The location in the graph of each external tensor, by name.
    """

    content: bytes = field(repr=False)
    rows: list[Row]
    locations: dict[str, str]


def checked_graph(
    content: bytes, rows: list[Row], about: Facts2, *, name: str
) -> Graph:
    """Refuse a graph that does not match its tensors and its manifest.

    Raises:
        MalformedBundle: Its external tensors or its operator sets differ.
    """
    facts = check_graph(content, name=f"{name}: graph.onnx", foreign=True)
    if facts.opsets != about.opsets:
        raise MalformedBundle(
            f"{name}: graph.onnx has opsets {facts.opsets}, expected {about.opsets}"
        )
    slots = slots_of(about.feature_maps)
    expected = {row.header.name for row in rows} | slots
    if len(expected) != len(rows) + len(slots):
        raise MalformedBundle(f"{name}: a tensor has the name of a key slot")
    if strays := sorted(facts.slots ^ expected):
        where = "has no bytes" if strays[0] in facts.slots else "is not in graph.onnx"
        raise MalformedBundle(f"{name}: tensor {strays[0]!r} {where}")
    return Graph(content, rows, facts.locations)


def manifest_mac(file_key: FileKey, manifest: Manifest2) -> str:
    """Return the MAC of a manifest without its field `mac`, in hex."""
    return file_hmac(file_key, MANIFEST_MAC, manifest.to_bytes(without_mac=True))


def file_hmac(file_key: FileKey, label: str, message: bytes) -> str:
    """Return an HMAC that takes the file key to compute or check, in hex."""
    return hmac.new(file_key.key(label), message, hashlib.sha256).hexdigest()


def selftest2(file_key: FileKey, values: NDArray[np.integer[Any]]) -> str:
    """Return the HMAC of the transformed image of the self-test, in hex."""
    return file_hmac(file_key, SELFTEST, values.astype("<i4").tobytes())


def bundle2_of(content: bytes, *, name: str) -> Bundle2:
    """Read a bundle from memory, as `read_bundle` does from a file.

    Raises:
        MalformedBundle: It does not follow the specification.
    """
    return Bundle2(io.BytesIO(content), len(content), name=name)


def unsealed_graph(bundle: Bundle2) -> Graph:
    """Return the graph of a bundle that is not sealed, unauthenticated, without a key.

    Raises:
        BundleError: It is sealed.
        MalformedBundle: It does not follow the specification.
    """
    about, name = bundle.manifest, bundle.name
    if about.seal.graph:
        raise BundleError(f"{name} is sealed: its graph cannot be read without the key")
    rows = parse_table(bundle.read(about.table_member), name=name)
    return checked_graph(bundle.read(about.graph_member), rows, about, name=name)


__all__ = ["Bundle2", "Graph", "Member", "Unlocked"]
