"""The images of a training: where they are, and the facts about them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlguard.data import LabelledSet, name_classes
from mlguard.recipe import Recipe


@dataclass(frozen=True)
class DataFolder:
    """The folder of the data, and whether torchvision may fetch it."""

    root: Path | None
    download: bool = False


def named_recipe(recipe: Recipe, data: DataFolder) -> Recipe:
    """Return the recipe with its classes named, if it leaves that to the data.

    Raises:
        DatasetError: The class folders are missing or not valid, or the recipe names
            other classes than CIFAR-10 has.
    """
    named = name_classes(recipe.data, data.root)
    return recipe.model_copy(update={"data": named})


def facts_of_images(
    recipe: Recipe, training_set: LabelledSet, validation_set: LabelledSet
) -> dict[str, Any]:
    """Return the facts about the images for provenance.json."""
    return {
        "kind": recipe.data.kind,
        "train_images": len(training_set),
        "train_fingerprint": training_set.fingerprint,
        "validation_images": len(validation_set),
        "validation_fingerprint": validation_set.fingerprint,
    }
