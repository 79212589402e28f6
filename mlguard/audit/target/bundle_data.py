"""Which images a bundle is for, as far as its manifest says so."""

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
    """The data set of a bundle.

    It does not say how they lie on a disk: the `folder` layout is assumed, and
    `imagefolder` for a classification, with lists of the usual names.

    Raises:
        DatasetError: No recipe could say what the manifest does, or nothing of what
            the bundle gives could be scored.
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
    """The image that a bundle takes, and the classes that it gives.

    Raises:
        DatasetError: It takes no RGB image, or gives no classes, or an audit could not
            say what somebody without its key gets.
    """
    image, task = image_of(manifest), task_of(manifest)
    if image is None or image.colours != "RGB" or len(image.size) != 2:
        raise DatasetError(
            f"{name} takes no RGB image, so there is no data set to audit it on",
            hint="`mlguard predict` runs it; an audit scores classes of images",
        )
    if task is None or task.name not in KINDS:
        given = "detections" if task is not None else "no class of a pixel or an image"
        raise DatasetError(
            f"{name} gives {given}, which an audit does not score",
            hint="segmentation and classification are audited",
        )
    if isinstance(manifest, Manifest2) and not manifest.seal.weights:
        raise DatasetError(
            f"{name} is of format 2 and not sealed: there is nothing to be found out",
            hint="audit the run folder it was made of",
        )
    return image, task


def check_data(manifest: AnyManifest, data: recipe.Data, *, name: str) -> None:
    """Refuse images that a bundle is not for.

    Raises:
        DatasetError: Another task, other classes, or another size.
    """
    image, task = scored(manifest, name=name)
    hint = "audit a bundle on the data it was trained for; --recipe and --set name it"
    if data.task != task.name:
        raise DatasetError(
            f"{name} is for {task.name}, the data is labelled for {data.task}",
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
            f"{name} ignores {task.ignore_index} in masks, the data "
            f"{data.ignore_index}",
            hint=hint,
        )
    if data.size != image.size:
        own, other = (
            f"{height} x {width}" for height, width in (image.size, data.size)
        )
        raise DatasetError(
            f"{name} was trained at {own} pixels, the data is to be read at {other}",
            hint=f"--set data.size={list(image.size)}",
        )


def _first_difference(own: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(own) != len(other):
        return f"it has {len(own)}, the data {len(other)}"
    index = next(i for i, (a, b) in enumerate(zip(own, other, strict=True)) if a != b)
    return f"class {index} is {own[index]!r}, in the data {other[index]!r}"
