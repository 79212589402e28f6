"""What a bundle of either format says of images and of its answer, in one tongue."""

from mlguard.bundle.manifest import Manifest
from mlguard.bundle.manifest2 import ImageFacts, Manifest2, ResizeFacts, TaskFacts

PIXELS, LOGITS = "pixels", "logits"  # what a model of format 1 takes and gives


def image_of(manifest: Manifest | Manifest2) -> ImageFacts | None:
    """Which input is an image, and what becomes of it; None if none is."""
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
    """What the answer means; None if nothing is known of it."""
    if isinstance(manifest, Manifest2):
        return manifest.task
    return TaskFacts(
        name=manifest.task,
        output=LOGITS,
        class_names=manifest.class_names,
        ignore_index=manifest.ignore_index,
    )
