"""Open a bundle of either format with its key, into what onnxruntime loads.

The key authenticates everything before it is used; docs/spec/bundle-v1.md, section 3,
and bundle-v2.md, section 5. Opened parts exist in memory only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from numpy.typing import NDArray

from mlguard.bundle import (
    Bundle,
    Bundle2,
    FileSecrets,
    Glimpse,
    Manifest,
    Manifest2,
    Tensor2,
    Unlocked,
    check_key,
    image_of,
    selftest_digest,
    task_of,
)
from mlguard.bundle.bundle2 import selftest2
from mlguard.bundle.graph_limits import check_graph
from mlguard.errors import MalformedBundle
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.runtime.one_graph import Parts
from mlguard.runtime.providers import PIXELS, Outside
from mlguard.runtime.selftest import Digest
from mlguard.runtime.types import ELEMENT_OF, FLOAT
from mlguard.transforms import TransformSet


@dataclass(frozen=True)
class Opened:
    """A bundle opened with its key.

    Attributes:
        name: Its name in a refusal.
        manifest: The manifest, of either format.
        parts: The graphs.
        outside: The weights and key slots of the model.
        slots: The tensors of the preprocess graph's key slots, by name. They are key
            material.
        inputs: The inputs of `parts.model`.
        outputs: Its outputs.
        digest: The function that digests the transformed test image; None without one.
        selftest: The digest that it must return.
    """

    name: str
    manifest: Manifest | Manifest2
    parts: Parts
    outside: Outside = field(repr=False)
    slots: Mapping[str, NDArray[Any]] = field(repr=False)
    inputs: tuple[Tensor2, ...]
    outputs: tuple[Tensor2, ...]
    digest: Digest | None
    selftest: str | None


def open_model(
    bundle: Bundle | Bundle2 | Glimpse, key: ModelKey | FileSecrets
) -> Opened:
    """Open a bundle with its key.

    Args:
        bundle: The bundle, read whole or only its manifest.
        key: The key that it was made for; for an issued bundle, the secrets in its
            grant.

    Raises:
        WrongKey: The bundle was made for another key; both ids are named.
        TamperedBundle: The file was changed after the key's owner wrote it.
        MalformedBundle: The file does not follow the specification.
    """
    if isinstance(bundle, Bundle2):
        return _open_2(bundle.unlock(key))
    given = cast(ModelKey, key)
    if isinstance(bundle, Glimpse):
        return _open_1(*bundle.unlock(given))
    return _open_1(bundle, check_key(bundle.manifest, given, name=bundle.name))


def _open_1(bundle: Bundle, subkeys: ModelSubkeys) -> Opened:
    manifest, name = bundle.manifest, bundle.name
    transforms = manifest.keyed.derive(subkeys)
    slots = image_slots(transforms, set(bundle.slots), name=name)
    outside = Outside()
    outside.add_slots(transforms.channel_slots())
    return Opened(
        name=name,
        manifest=manifest,
        parts=Parts(
            bundle.open_model(subkeys),  # in memory only, and not kept
            image_of(manifest),
            task_of(manifest),
            preprocess=bundle.preprocess,
            opset=manifest.opset,
        ),
        outside=outside,
        slots=slots,
        inputs=(Tensor2(name=PIXELS, datatype="FP32", shape=(-1, 3, -1, -1)),),
        outputs=tuple(
            Tensor2(name=one.name, datatype=one.datatype, shape=one.shape)
            for one in manifest.outputs
        ),
        digest=lambda values: selftest_digest(subkeys, values),
        selftest=manifest.selftest,
    )


def _open_2(unlocked: Unlocked) -> Opened:
    about, name = unlocked.bundle.manifest, unlocked.bundle.name
    transforms = about.keyed.derive(cast(ModelSubkeys, unlocked.subkeys))
    graph, outside = unlocked.graph(), Outside()
    preprocess, slots = None, dict[str, NDArray[Any]]()
    if about.selftest is not None:
        preprocess = unlocked.preprocess()
        declared = check_graph(preprocess, name=name).slots
        slots = image_slots(transforms, declared, name=name)
    for row, data in unlocked.tensors(graph.rows):
        outside.add_tensor(row.header, graph.locations[row.header.name], data)
    outside.add_slots(transforms.channel_slots())
    types = {one.name: ELEMENT_OF.get(one.datatype, 0) for one in about.inputs}
    given = {one.name: ELEMENT_OF.get(one.datatype, 0) for one in about.outputs}
    file_key = unlocked.file_key
    return Opened(
        name=name,
        manifest=about,
        parts=Parts(
            graph.content,
            about.image,
            about.task,
            input_type=types[about.image.input] if about.image else FLOAT,
            output_type=given[about.task.output] if about.task else FLOAT,
            preprocess=preprocess,
            opset=about.opsets.get("", 0),
        ),
        outside=outside,
        slots=slots,
        inputs=about.inputs,
        outputs=about.outputs,
        digest=lambda values: selftest2(file_key, values),
        selftest=about.selftest,
    )


def image_slots(
    transforms: TransformSet, declared: set[str], *, name: str
) -> dict[str, NDArray[Any]]:
    """Return the tensors of the preprocess graph's key slots, and check their names."""
    slots = {} if transforms.image is None else transforms.image.slots()
    if set(slots) != declared:
        raise MalformedBundle(
            f"{name}: expected key slots {sorted(slots)}, got {sorted(declared)}"
        )
    return dict(slots)
