"""Find the images that a bundle is for, as far as its manifest describes them."""

from pydantic import ValidationError

from mlguard import recipe
from mlguard.bundle import (
    ImageFacts,
    Manifest,
    Manifest2,
    TaskFacts,
    image_of,
    task_of,
)
from mlguard.errors import DatasetError
from mlguard.validation import problems_of

AnyManifest = Manifest | Manifest2

KINDS: dict[str, recipe.Kind] = {
    "segmentation": "folder",
    "classification": "imagefolder",
}


def data_of(manifest: AnyManifest, *, name: str) -> recipe.Data:
    """Return the data set of a bundle.

    The manifest does not describe files: the `folder` layout is assumed, or
        `imagefolder` for a classification, with lists of the usual names.

    Raises:
        DatasetError: No recipe matches the manifest, or the bundle's answer cannot be
            scored.
    """
    image, task = scored(manifest, name=name)
    fields: dict[str, object] = {
        "kind": KINDS[task.name],
        "class_names": task.class_names,
        "size": image.size,
    }
    if task.ignore_index is not None:
        fields["ignore_index"] = task.ignore_index
    try:
        return recipe.Data.model_validate(fields)
    except ValidationError as error:
        problem = problems_of(error, whole="manifest.json")[0]
        raise DatasetError(
            f"{name}: no data set fits its manifest: {problem}"
        ) from None


def scored(manifest: AnyManifest, *, name: str) -> tuple[ImageFacts, TaskFacts]:
    """Return the image that a bundle takes, and the task of its answer.

    Raises:
        DatasetError: It does not take an RGB image, does not answer with classes, or an
            audit would learn nothing about users without its key.
    """
    image, task = image_of(manifest), task_of(manifest)
    if image is None or image.colours != "RGB" or len(image.size) != 2:
        raise DatasetError(
            f"{name} does not take an RGB image, so there is no data set to audit it "
            "on",
            hint="`mlguard predict` runs it, but an audit scores classes of images",
        )
    if task is None or task.name not in KINDS:
        given = "detections" if task is not None else "no class of a pixel or an image"
        raise DatasetError(
            f"{name} answers with {given}, which an audit does not score",
            hint="only segmentation and classification can be audited",
        )
    if isinstance(manifest, Manifest2) and not manifest.seal.weights:
        raise DatasetError(
            f"{name} is of format 2 and not sealed: there is nothing to find out",
            hint="audit the run folder that it was made from",
        )
    return image, task


def check_data(manifest: AnyManifest, data: recipe.Data, *, name: str) -> None:
    """Refuse images that do not match a bundle.

    Raises:
        DatasetError: Another task, other classes, or another size.
    """
    image, task = scored(manifest, name=name)
    hint = (
        "audit a bundle on the data it was trained for: without --recipe its own "
        "classes and size apply, with it --set changes the recipe's"
    )
    if data.task != task.name:
        raise DatasetError(
            f"{name} is for {task.name}, but the data is labelled for {data.task}",
            hint=hint,
        )
    if data.class_names != task.class_names:
        raise DatasetError(
            f"{name} has other classes than the data: "
            f"{_first_difference(task.class_names, data.class_names)}",
            hint=hint,
        )
    if task.ignore_index not in (None, data.ignore_index):
        raise DatasetError(
            f"{name} ignores {task.ignore_index} in masks, but the data "
            f"{data.ignore_index}",
            hint=hint,
        )
    if data.size != image.size:
        own, other = (
            f"{height} x {width}" for height, width in (image.size, data.size)
        )
        raise DatasetError(
            f"{name} was trained at {own} pixels, but the data would be read at "
            f"{other}",
            hint=f"--set data.size={list(image.size)}",
        )


def _first_difference(own: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(own) != len(other):
        return f"it has {len(own)}, the data {len(other)}"
    index = next(i for i, (a, b) in enumerate(zip(own, other, strict=True)) if a != b)
    return f"class {index} is {own[index]!r}, in the data {other[index]!r}"
