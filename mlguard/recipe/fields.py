"""The types of a recipe's fields: closed sections, bounded numbers, texts."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Far above any training, far below what a computer cannot hold: a number with some
# zeros too many is refused at once, before it exhausts the machine.
MAX_SIDE = 8192  # pixels
MAX_IMAGES = 1_000_000  # of a split
MAX_BATCH = 65_536  # images
MAX_EPOCHS = 100_000
MAX_WIDTH = 8192  # channels
MAX_KEYS = 100_000
MAX_KEY_BITS = 256  # of a model key; no transform has more that counts

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Images = Annotated[int, Field(ge=1, le=MAX_IMAGES)]
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Keys = Annotated[int, Field(ge=1, le=MAX_KEYS)]
Rgb = tuple[float, float, float]


def _printable(text: str) -> str:
    if not text.isprintable():  # shown in terminals and written into bundles
        raise ValueError("contains control characters")
    return text


Text = Annotated[str, AfterValidator(_printable)]
Layer = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\z", max_length=200)
]


# Of a backbone: a layer, or a tensor of an ONNX file, whose names are anything.
MapName = Annotated[Text, Field(min_length=1, max_length=200)]


class Section(BaseModel):
    """A section: frozen, without unknown fields or conversions such as "3" to 3."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )
