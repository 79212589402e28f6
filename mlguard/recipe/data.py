"""The section [data] of a recipe: where the images are, and what their masks mean."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlguard.recipe.fields import (
    MAX_SIDE,
    Fraction,
    Images,
    Positive,
    Section,
    Side,
    Text,
)
from mlguard.rules import BYTE_MAX, MAX_CLASSES, TaskName

MAX_SEGMENTED = BYTE_MAX  # a mask is one byte a pixel, and one value is ignored

Kind = Literal[
    "voc", "folder", "shards", "shapes", "cifar10", "imagefolder", "imagenet"
]
CLASSIFIED = ("cifar10", "imagefolder", "imagenet")  # kinds whose images have one class


class Data(Section):
    """Where the images are, and what their masks or folders mean."""

    kind: Kind
    class_names: Annotated[
        tuple[Text, ...], Field(max_length=MAX_CLASSES["classification"])
    ] = ()
    ignore_index: Annotated[int, Field(ge=0, le=BYTE_MAX)] = BYTE_MAX
    size: tuple[Side, Side]  # height, width; pixels
    train: str = "train"
    validation: str | Images = "val"  # a split, or how many training images to hold out
    test: str = "test"
    shapes_images: tuple[Images, Images, Images] = (1200, 100, 200)
    crop_scale: tuple[Positive, Positive] = (0.5, 1.0)  # share of the image's area
    crop_ratio: tuple[Positive, Positive] = (0.75, 4 / 3)  # width / height
    pad: Annotated[int, Field(ge=0, le=MAX_SIDE)] = 0  # pixels; instead of crop_…
    flip: Fraction = 0.5
    cache: bool = True
    workers: Annotated[int, Field(ge=0, le=64)] = 0

    @property
    def classes(self) -> int:
        """How many classes there are, without the ignored one."""
        return len(self.class_names)

    @property
    def task(self) -> TaskName:
        """The task of a model for these images."""
        return "classification" if self.kind in CLASSIFIED else "segmentation"

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low} is above {high}")
        default = type(self).model_fields
        crops = (self.crop_scale, self.crop_ratio)
        if self.pad and crops != (
            default["crop_scale"].default,
            default["crop_ratio"].default,
        ):
            raise ValueError("pad: cannot be combined with crop_scale and crop_ratio")
        return self

    @model_validator(mode="after")
    def _classes(self) -> Self:
        if self.task == "classification":
            if self.ignore_index != type(self).model_fields["ignore_index"].default:
                raise ValueError(
                    f"ignore_index: every image of {self.kind} has a class"
                )
            if len(self.class_names) == 1 or self._repeats():
                raise ValueError("class_names: expected two or more different names")
            return self
        if self.pad:
            raise ValueError("pad: masks are cropped with crop_scale and crop_ratio")
        if not 2 <= self.classes <= MAX_SEGMENTED:
            raise ValueError(
                f"class_names: masks have 2 to {MAX_SEGMENTED} classes, "
                f"got {self.classes}"
            )
        if self.ignore_index < self.classes:
            raise ValueError(
                f"ignore_index: {self.ignore_index} is one of the "
                f"{self.classes} classes"
            )
        return self

    def _repeats(self) -> bool:
        return len(set(self.class_names)) < len(self.class_names)
