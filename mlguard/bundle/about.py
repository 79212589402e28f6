"""Describe the images and the answer of a bundle of either format, in one way."""

from collections.abc import Sequence

from mlguard.bundle.backbone import BackboneFacts
from mlguard.bundle.manifest import Manifest
from mlguard.bundle.manifest2 import (
    ImageFacts,
    Manifest2,
    ResizeFacts,
    TaskFacts,
    Tensor2,
)

IMAGES_INPUT = "images"  # a session's name for the image, whatever the model's is
PIXELS, LOGITS = (
    "pixels",
    "logits",
)  # names of the input and output of a model of format 1


def image_of(manifest: Manifest | Manifest2) -> ImageFacts | None:
    """Return which input is an image, and its preprocessing; None if none is."""
    if isinstance(manifest, Manifest2):
        return manifest.image
    spec, given = manifest.transform, manifest.normalization
    return ImageFacts(
        input=PIXELS,
        mean=given.mean,
        std=given.std,
        size=manifest.image_size,
        resize=ResizeFacts(rule="pad", multiple=spec.block_size),
        transform=spec if spec.methods else None,
    )


def task_of(manifest: Manifest | Manifest2) -> TaskFacts | None:
    """Return what the answer means; None if nothing is known about it."""
    if isinstance(manifest, Manifest2):
        return manifest.task
    return TaskFacts(
        name=manifest.task,
        output=LOGITS,
        class_names=manifest.class_names,
        ignore_index=manifest.ignore_index,
    )


def key_in_model(manifest: Manifest | Manifest2) -> str | None:
    """Why a key cannot stay with who sends images; None where it can.

    It can where it acts on images alone: then the model runs without it.
    """
    if maps := manifest.feature_maps:
        layers = ", ".join(one.layer for one in maps)
        return f"the key acts inside the model, on the outputs of {layers}"
    image = image_of(manifest)
    if image is None or image.transform is None:
        return "the key does nothing to images, so the model needs it, or nobody does"
    return None


def prepared_input(image: ImageFacts) -> Tensor2:
    """What a model takes whose images were transformed and normalized before."""
    return Tensor2(name=image.input, datatype="FP32", shape=(-1, 3, -1, -1))


def backbone_of(manifest: Manifest | Manifest2) -> BackboneFacts | None:
    """The public half that the model needs beside it; None if it is whole."""
    return manifest.backbone if isinstance(manifest, Manifest2) else None


def predicts(
    inputs: Sequence[object], image: ImageFacts | None, task: TaskFacts | None
) -> bool:
    """Whether a model takes only an image, and classifies it or its pixels."""
    if image is None or task is None or task.name == "detection":
        return False
    return len(inputs) == 1


def shown_inputs(
    inputs: tuple[Tensor2, ...], image: ImageFacts | None
) -> tuple[Tensor2, ...]:
    """Return the inputs of a session; an image is given as 8-bit pixels."""
    if image is None:
        return inputs
    pixels = Tensor2(
        name=IMAGES_INPUT,
        datatype="UINT8",
        shape=(-1, image.channels, *(-1 for _ in image.size)),
    )
    return tuple(pixels if one.name == image.input else one for one in inputs)
