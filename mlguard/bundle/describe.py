"""Describe a bundle without a key: facts from its manifest, not authenticated.

Everything comes from the manifest and the positions of the members. Anybody who can
write the file can write these facts; only a key or a signature shows that they are the
owner's.
"""

from typing import Any

from mlguard.bundle.about import backbone_of, image_of, task_of
from mlguard.bundle.bundle2 import Bundle2
from mlguard.bundle.manifest import Manifest
from mlguard.bundle.manifest2 import Manifest2
from mlguard.bundle.read import Glimpse

WEIGHTS = "weights"  # the method of a bundle whose weights are encrypted
SPLIT = "split"  # of one that is the private half of a model


def describe(bundle: Glimpse | Bundle2) -> dict[str, Any]:
    """Return the facts in the file, ready for JSON.

    Args:
        bundle: A bundle of either format; only its manifest is read.
    """
    manifest = bundle.manifest
    facts = {
        "format": 2 if isinstance(manifest, Manifest2) else 1,
        "vouched_for": False,
        "protection_id": manifest.protection_id,
        "key_id": manifest.key_id,
        "methods": methods_of(manifest),
        "key_space_bits": _bits(manifest),
        "feature_maps": _plain(manifest.feature_maps),
        "image": _plain(image_of(manifest)),
        "task": _plain(task_of(manifest)),
        "inputs": _plain(manifest.inputs),
        "outputs": _plain(manifest.outputs),
        "licence": manifest.licence,
        "audit": _plain(manifest.audit),
        "provenance": _plain(manifest.provenance),
        "members": {name: one.size for name, one in manifest.files.items()},
    }
    if isinstance(manifest, Manifest2) and isinstance(bundle, Bundle2):
        return facts | {
            "sealed": {
                "graph": manifest.seal.graph,
                "weights": manifest.seal.weights,
            },
            "coverage": _plain(manifest.coverage),
            "precision": _plain(manifest.precision),
            "opsets": manifest.opsets,
            "backbone": _plain(manifest.backbone),
            "issued": manifest.issued,
            "signed": bundle.signature is not None,
            "manifest_sha256": bundle.digest,
        }
    sealed = bundle.sealed
    return facts | {"sealed": {"graph": sealed, "weights": sealed}, "issued": False}


def methods_of(manifest: Manifest | Manifest2) -> list[str]:
    """Return the methods that protect the file, by their names in a recipe."""
    methods = list(manifest.keyed.methods)
    if manifest.feature_maps:
        methods.append("channels")
    if backbone_of(manifest) is not None:
        methods.append(SPLIT)
    elif isinstance(manifest, Manifest2) and manifest.seal.weights:
        methods.append(WEIGHTS)
    return methods


def _bits(manifest: Manifest | Manifest2) -> float:
    """Return the effective key space besides the seal, in bits."""
    if isinstance(manifest, Manifest):
        return manifest.key_space_bits
    spec = None if manifest.image is None else manifest.image.transform
    shown = spec is not None and spec.shown_by_weights and not manifest.seal.weights
    return round(manifest.keyed.key_space(shown=shown), 1)


def _plain(part: Any) -> Any:
    if isinstance(part, tuple):
        return [_plain(one) for one in part]
    return None if part is None else part.model_dump(mode="json")
