"""Step 6: make, write and read a bundle of format 1, as in docs/spec/bundle-v1.md.

Reading needs no key and runs nothing: it checks that a file is complete. With the key,
`proofs.check_key` checks that its owner wrote it, and `Bundle.open_model` opens a
sealed model.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mlguard.bundle.archive import (
    MANIFEST,
    MEMBERS,
    MODEL,
    PREPROCESS,
    SEALED_MODEL,
    parts_of,
    unpack,
)
from mlguard.bundle.graph_limits import GraphFacts, check_graph
from mlguard.bundle.manifest import (
    INPUTS,
    Facts,
    Manifest,
    Member,
    SealFacts,
    outputs_of,
    parse_manifest,
    slots_of,
)
from mlguard.bundle.proofs import (
    commitment,
    manifest_mac,
    selftest_digest,
    selftest_image,
)
from mlguard.bundle.sealing import OVERHEAD_BYTES, seal, unseal
from mlguard.errors import BundleError, MalformedBundle, TamperedBundle
from mlguard.files import fill_new
from mlguard.keys import ModelSubkeys


@dataclass(frozen=True)
class Bundle:
    """A complete bundle. It holds no key, and a sealed model only in sealed form.

    Attributes:
        name: The path it was read from, or its name in a refusal.
        manifest: Everything that is not a graph.
        preprocess: The keyed transform as ONNX, its key slots empty.
        stored: The model as it lies in the file: ONNX, or sealed.
        slots: Names of the key slots that `preprocess` declares.
    """

    name: str
    manifest: Manifest
    preprocess: bytes = field(repr=False)
    stored: bytes = field(repr=False)
    slots: frozenset[str]

    @property
    def sealed(self) -> bool:
        """Whether the model can be read only with the key."""
        return self.manifest.seal is not None

    @property
    def model(self) -> bytes:
        """The model as ONNX, if the bundle is not sealed.

        Raises:
            BundleError: It is sealed.
        """
        if self.sealed:
            raise BundleError(
                f"{self.name} is sealed: its model cannot be read without the key",
                hint="`mlguard export --no-seal` writes bundles for other runtimes",
            )
        return self.stored

    @property
    def model_slots(self) -> frozenset[str]:
        """Names of the key slots that the model declares."""
        return slots_of(self.manifest.feature_maps)

    def open_model(self, subkeys: ModelSubkeys) -> bytes:
        """Return the model as ONNX, checked, sealed or not. It stays in memory.

        Args:
            subkeys: The result of `check_key`, so that the manifest is authenticated
                first.

        Raises:
            WrongKey: It was sealed under another key.
            TamperedBundle: The model was changed, or sealed for another bundle.
            MalformedBundle: A bundle cannot hold such a model.
        """
        if not self.sealed:
            return self.stored  # `parse_bundle` has checked it
        model = unseal(
            self.stored,
            subkeys,
            preprocess_sha256=self.manifest.files[PREPROCESS].sha256,
            name=f"{self.name}: {SEALED_MODEL}",
        )
        _check_model(model, self.manifest, name=self.name)
        return model

    def to_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return b"".join(self.parts())

    def parts(self) -> list[bytes]:
        """Return the bytes of the file in parts, none of them copied."""
        members = {MANIFEST: self.manifest.to_bytes(), PREPROCESS: self.preprocess}
        return parts_of(members | {self.manifest.model_member: self.stored})


def make_bundle(
    facts: Facts,
    *,
    preprocess: bytes,
    model: bytes,
    subkeys: ModelSubkeys,
    name: str,
    sealed: bool = True,
) -> Bundle:
    """Put a bundle together, with the proofs made by the key.

    Args:
        facts: The exporter's facts about the model.
        preprocess: The keyed transform as ONNX, its key slots empty.
        model: The model as ONNX, its key slots empty too.
        subkeys: The subkeys of the protected model.
        name: The name of the bundle in a refusal.
        sealed: Whether the model can be read only with the key.

    Raises:
        MalformedBundle: A bundle cannot hold one of the graphs.
        BundleError: The facts or a graph exceed the limit of their member.
    """
    slots = _check_preprocess(preprocess, facts, name=name)
    _check_model(model, facts, name=name)
    model_member = SEALED_MODEL if sealed else MODEL
    added = OVERHEAD_BYTES if sealed else 0
    _check_size(model_member, len(model) + added, name=name)
    _check_size(PREPROCESS, len(preprocess), name=name)
    beside = _member(preprocess)
    stored = model
    if sealed:
        stored = seal(model, subkeys, preprocess_sha256=beside.sha256)
        del model
    image = selftest_image(facts.transform.block_size)
    transform = facts.keyed.derive(subkeys).image
    values = image.astype(np.int32) if transform is None else transform.values(image)
    manifest = Manifest(
        **dict(facts),
        protection_id=subkeys.protection_id.hex(),
        key_id=subkeys.key_id,
        key_commitment=commitment(subkeys, hashlib.sha256(stored).digest()),
        key_space_bits=facts.key_space(sealed=sealed),
        inputs=INPUTS,
        outputs=outputs_of(facts),
        files={PREPROCESS: beside, model_member: _member(stored)},
        selftest=selftest_digest(subkeys, values),
        mac="0" * 64,
        seal=SealFacts() if sealed else None,
    )
    mac = manifest_mac(subkeys, manifest)
    manifest = manifest.model_copy(update={"mac": mac})
    _check_size(MANIFEST, len(manifest.to_bytes()), name=name)
    return Bundle(name, manifest, preprocess, stored, slots)


def write_bundle(
    path: Path, bundle: Bundle, *, check: Callable[[Path], object] | None = None
) -> None:
    """Write a bundle completely or not at all, and never overwrite a file.

    Args:
        path: The bundle to write.
        bundle: Its contents.
        check: Called with the finished file before it gets its name; if it raises, no
            file is left behind.

    Raises:
        OutputExists: Something is already at the path.
        OutputError: There is no space, or the folder is not writable.
    """
    fill_new(path, lambda file: file.writelines(bundle.parts()), check=check)


def parse_bundle(file: BinaryIO, size: int, *, name: str) -> Bundle:
    """Read a whole bundle of format 1 from an open file.

    Raises:
        MalformedBundle: The file does not follow the specification.
        TamperedBundle: A member does not match the manifest.
    """
    members = unpack(file, size, name=name)
    manifest = parse_manifest(members[MANIFEST], name=name)
    if set(manifest.files) != set(members) - {MANIFEST}:
        sealed = "sealed" if manifest.seal else "not sealed"
        raise MalformedBundle(
            f"{name}: {MANIFEST} says that the model is {sealed}, and the file has "
            f"{SEALED_MODEL if SEALED_MODEL in members else MODEL}"
        )
    for member, facts in manifest.files.items():
        if facts != _member(members[member]):
            raise TamperedBundle(
                f"{name}: {member} does not match its SHA-256 in manifest.json"
            )
    slots = _check_preprocess(members[PREPROCESS], manifest, name=name)
    stored = members[manifest.model_member]
    if manifest.seal is None:
        _check_model(stored, manifest, name=name)
    return Bundle(name, manifest, members[PREPROCESS], stored, slots)


def _check_preprocess(graph: bytes, about: Facts, *, name: str) -> frozenset[str]:
    """Check the keyed transform, and return its key slots."""
    return frozenset(_check(graph, about, name=f"{name}: {PREPROCESS}").slots)


def _check_model(graph: bytes, about: Facts, *, name: str) -> None:
    """Refuse a model whose key slots or external data differ from the manifest's.

    For a sealed bundle, it checks the model before sealing.
    """
    slots = _check(graph, about, name=f"{name}: {MODEL}").slots
    if slots != slots_of(about.feature_maps):
        raise MalformedBundle(
            f"{name}: {MODEL} points to data outside the file that is not a key slot "
            "of manifest.json"
            if slots - slots_of(about.feature_maps)
            else f"{name}: {MODEL} lacks a key slot that manifest.json names"
        )


def _check(graph: bytes, about: Facts, *, name: str) -> GraphFacts:
    facts = check_graph(graph, name=name)
    if facts.opset != about.opset:
        raise MalformedBundle(f"{name} has opset {facts.opset}, expected {about.opset}")
    return facts


def _check_size(member: str, size: int, *, name: str) -> None:
    if size > MEMBERS[member]:
        raise BundleError(
            f"{name}: {member} would have {size} bytes, at most {MEMBERS[member]} are "
            "allowed"
        )


def _member(content: bytes) -> Member:
    return Member(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
