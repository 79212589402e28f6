"""What a host without the key may run: a plain model, or a public backbone."""

from dataclasses import dataclass
from pathlib import Path

from mlguard.bundle import (
    Bundle,
    Bundle2,
    Glimpse,
    Tensor2,
    backbone_of,
    image_of,
)
from mlguard.bundle.about import key_in_model, prepared_input
from mlguard.bundle.backbone import FILE
from mlguard.errors import BundleError
from mlguard.runtime.backbone import BATCH, images_tensor, maps_tensors, read_backbone


@dataclass(frozen=True)
class HostModel:
    """An ONNX model without a key, and its tensors.

    Attributes:
        content: The ONNX file.
        inputs: Its inputs, the batch axis first.
        outputs: Its outputs, likewise.
        batch: The most images that a client sends in one request; 0 if unknown.
    """

    content: bytes
    inputs: tuple[Tensor2, ...]
    outputs: tuple[Tensor2, ...]
    batch: int = 0


def model_at_host(bundle: Bundle2 | Glimpse, backbone: Path | None = None) -> HostModel:
    """Return what a host runs for a bundle whose key stays at the client.

    Args:
        bundle: The bundle.
        backbone: Of a split model: its public half; None for backbone.onnx beside the
            bundle.

    Raises:
        BundleError: The model needs the key, or is sealed; or the backbone cannot be
            read.
        WrongBackbone: The backbone is of another bundle.
        MalformedBundle: The file does not follow the specification.
    """
    if (facts := backbone_of(bundle.manifest)) is not None:
        content = read_backbone(backbone or Path(bundle.name).with_name(FILE), facts)
        return HostModel(content, (images_tensor(),), maps_tensors(facts), BATCH)
    plain = _without_key(bundle)
    image = image_of(plain.manifest)
    if image is None:
        raise AssertionError("a bundle of format 1 takes images")
    outputs = tuple(
        Tensor2(name=one.name, datatype=one.datatype, shape=one.shape)
        for one in plain.manifest.outputs
    )
    return HostModel(plain.model, (prepared_input(image),), outputs)


def _without_key(bundle: Bundle2 | Glimpse) -> Bundle:
    """Return a bundle whose model runs without the key, or refuse it."""
    name = bundle.name
    if reason := key_in_model(bundle.manifest):
        raise BundleError(
            f"{name}: {reason}",
            hint="without `--key-at client` the server gets the key; or take a method "
            "that acts on images alone (shf, np, ffx, orthogonal)",
        )
    if bundle.sealed or isinstance(bundle, Bundle2):
        raise BundleError(
            f"{name} is sealed, and a host without the key cannot open it",
            hint="`mlguard export RUN --no-seal` writes what such a host may have; "
            "under the method `weights` there is nothing that it may",
        )
    return bundle.whole()


__all__ = ["HostModel", "model_at_host"]
