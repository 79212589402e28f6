"""Step 6: make, write and read a bundle. docs/spec/bundle-v1.md is the whole format.

Reading needs no key and runs nothing: it says that a file is whole. Whether its owner
wrote it is what `proofs.check_key` says, with the key.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mlguard.bundle.archive import (
    MANIFEST,
    MEMBERS,
    MODEL,
    PREPROCESS,
    pack,
    unpack,
)
from mlguard.bundle.graph_limits import GraphFacts, check_graph
from mlguard.bundle.key_work import derive_transforms
from mlguard.bundle.manifest import (
    INPUTS,
    Facts,
    Manifest,
    Member,
    outputs_of,
    parse_manifest,
)
from mlguard.bundle.proofs import (
    commitment,
    manifest_mac,
    selftest_digest,
    selftest_image,
)
from mlguard.errors import BundleError, MalformedBundle, TamperedBundle
from mlguard.files import atomic_write
from mlguard.keys import ModelSubkeys
from mlguard.transforms.channels import order_slot, signs_slot


@dataclass(frozen=True)
class Bundle:
    """A bundle that is whole. It holds no key.

    Attributes:
        name: The path it was read from, or what it is called in a refusal.
        manifest: Everything that is not a graph.
        preprocess: The keyed transform as ONNX, its key slots empty.
        model: The model as ONNX.
        slots: Names of the key slots that `preprocess` declares.
        model_slots: Those that `model` declares.
    """

    name: str
    manifest: Manifest
    preprocess: bytes = field(repr=False)
    model: bytes = field(repr=False)
    slots: frozenset[str]
    model_slots: frozenset[str]

    def to_bytes(self) -> bytes:
        """Give the bytes of the file."""
        contents = (self.manifest.to_bytes(), self.preprocess, self.model)
        return pack(dict(zip((MANIFEST, PREPROCESS, MODEL), contents, strict=True)))


def make_bundle(
    facts: Facts, *, preprocess: bytes, model: bytes, subkeys: ModelSubkeys, name: str
) -> Bundle:
    """Put a bundle together, with what the key proves about it.

    Args:
        facts: What the exporter knows about the model.
        preprocess: The keyed transform as ONNX, its key slots empty.
        model: The model as ONNX, its key slots empty too.
        subkeys: The subkeys of the protected model.
        name: What to call the bundle in a refusal.

    Raises:
        MalformedBundle: A graph is not one that a bundle can hold.
        BundleError: The facts, or a graph, are larger than a bundle's member.
    """
    graphs = {PREPROCESS: preprocess, MODEL: model}
    slots, model_slots = _check_graphs(graphs, facts, name=name)
    image = selftest_image(facts.transform.block_size)
    transform = derive_transforms(facts, subkeys).image
    values = image.astype(np.int32) if transform is None else transform.values(image)
    manifest = Manifest(
        **dict(facts),
        protection_id=subkeys.protection_id.hex(),
        key_id=subkeys.key_id,
        key_commitment=commitment(subkeys, hashlib.sha256(model).digest()),
        key_space_bits=facts.key_space(),
        inputs=INPUTS,
        outputs=outputs_of(facts),
        files={PREPROCESS: _member(preprocess), MODEL: _member(model)},
        selftest=selftest_digest(subkeys, values),
        mac="0" * 64,
    )
    mac = manifest_mac(subkeys, manifest)
    manifest = manifest.model_copy(update={"mac": mac})
    sizes = {MANIFEST: len(manifest.to_bytes())}
    sizes |= {graph: len(content) for graph, content in graphs.items()}
    for member, limit in MEMBERS.items():
        if sizes[member] > limit:
            raise BundleError(
                f"{name}: {member} would have {sizes[member]} bytes, "
                f"at most {limit} fit"
            )
    return Bundle(name, manifest, preprocess, model, slots, model_slots)


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write a bundle whole or not at all, replacing what was there.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    atomic_write(path, bundle.to_bytes())


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check that it is whole.

    Raises:
        BundleError: There is no such file, or it is not readable.
        MalformedBundle: The file does not follow the specification.
        TamperedBundle: A member is not the one the manifest names.
    """
    try:
        # Not blocking, so that a pipe is refused below and not waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MalformedBundle(f"{path} is not a regular file")
            return parse_bundle(file, status.st_size, name=str(path))
    except OSError as error:
        raise BundleError(
            f"cannot read bundle {path}: {error.strerror}", hint="check the path"
        ) from None


def parse_bundle(file: BinaryIO, size: int, *, name: str) -> Bundle:
    """Read a bundle from an open file; as `read_bundle`.

    Raises:
        MalformedBundle: The file does not follow the specification.
        TamperedBundle: A member is not the one the manifest names.
    """
    members = unpack(file, size, name=name)
    manifest = parse_manifest(members[MANIFEST], name=name)
    graphs = {graph: members[graph] for graph in (PREPROCESS, MODEL)}
    for graph, content in graphs.items():
        if manifest.files[graph] != _member(content):
            raise TamperedBundle(f"{name}: {graph} is not the one manifest.json names")
    slots, model_slots = _check_graphs(graphs, manifest, name=name)
    return Bundle(name, manifest, graphs[PREPROCESS], graphs[MODEL], slots, model_slots)


def _check_graphs(
    graphs: Mapping[str, bytes], about: Facts, *, name: str
) -> tuple[frozenset[str], frozenset[str]]:
    """The key slots of both graphs; everything else must be in the file."""
    facts: dict[str, GraphFacts] = {}
    for graph, content in graphs.items():
        facts[graph] = check_graph(content, name=f"{name}: {graph}")
        if facts[graph].opset != about.opset:
            raise MalformedBundle(
                f"{name}: {graph} has opset {facts[graph].opset}, "
                f"expected {about.opset}"
            )
    declared = frozenset(facts[PREPROCESS].slots), frozenset(facts[MODEL].slots)
    if declared[1] != _slots_of(about):
        raise MalformedBundle(
            f"{name}: {MODEL} points to data outside the file that is not a key slot "
            "of manifest.json"
            if declared[1] - _slots_of(about)
            else f"{name}: {MODEL} lacks a key slot that manifest.json names"
        )
    return declared


def _slots_of(facts: Facts) -> frozenset[str]:
    """The key slots of the model that a manifest names."""
    orders = {order_slot(one.layer) for one in facts.feature_maps}
    return frozenset(
        orders | {signs_slot(o.layer) for o in facts.feature_maps if o.signs}
    )


def _member(content: bytes) -> Member:
    return Member(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
