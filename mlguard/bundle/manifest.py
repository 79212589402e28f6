"""The manifest of format 1: everything but the graphs, in canonical JSON.

One content has one spelling: a reader writes again what it has read and refuses the
file if the bytes differ, so nothing can hide in a duplicate key, an unknown field or
another way to write a number. The specification is docs/spec/bundle-v1.md, section 2.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from mlguard.bundle.archive import MODEL, PREPROCESS, SEALED_MODEL
from mlguard.bundle.sealing import SUITE
from mlguard.canonical import Hex16, Hex32, Hex64, canonical
from mlguard.errors import MalformedBundle
from mlguard.rules import BLOCK_SIZES, BYTE_MAX, MAX_CLASSES, ImageMethod, TaskName
from mlguard.transforms import KeyedLayer, KeyedTransforms, key_space_bits
from mlguard.transforms.channels import MAX_CHANNELS, order_slot, signs_slot
from mlguard.validation import problems_of, refuse_crowded

SCHEMA = "mlguard.bundle/1"
LAYER = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\z"
MAX_LAYERS = 256
MAX_INTEGER = 2**53 - 1  # above it, JSON readers in other languages round


def _printable(text: str) -> str:
    # These texts are shown in terminals, where control characters are commands.
    if not all(line.isprintable() for line in text.split("\n")):
        raise ValueError("contains control characters")
    return text


Text = Annotated[str, AfterValidator(_printable)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Rgb = tuple[Number, Number, Number]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Side = Annotated[int, Field(ge=1, le=1 << 16)]


class Part(BaseModel):
    """A piece of a manifest: strict, frozen, and without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TransformFacts(Part):
    """The keyed transform of images; docs/spec/transforms-v1.md.

    Without methods, images are left alone and the key acts on feature maps only.

    Attributes:
        shown_by_weights: Whether it can be read off the model's weights.
    """

    spec: Literal[1] = 1
    methods: tuple[ImageMethod, ...]
    block_size: int  # M, pixels
    shown_by_weights: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.block_size not in BLOCK_SIZES:
            raise ValueError(
                f"block_size {self.block_size} is not one of {BLOCK_SIZES}"
            )
        if self.methods:
            key_space_bits(self.methods, self.block_size)  # refuses what does not fit
        elif self.block_size != 1 or self.shown_by_weights:
            raise ValueError("without methods, block_size is 1 and nothing is shown")
        return self

    @model_serializer(mode="wrap")
    def _spelled(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        if (
            not self.shown_by_weights
        ):  # left out, so that older bundles keep their spelling
            del fields["shown_by_weights"]
        return fields


class FeatureMapFacts(Part):
    """One layer whose output the key permutes; transforms-v1.md, section 9."""

    layer: Annotated[str, Field(pattern=LAYER, max_length=200)]
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    signs: bool


class NormalizationFacts(Part):
    """Mean and standard deviation that normalize the transformed pixels in [0, 1]."""

    mean: Rgb
    std: tuple[
        Annotated[Number, Field(gt=0)],
        Annotated[Number, Field(gt=0)],
        Annotated[Number, Field(gt=0)],
    ]


class TensorFacts(Part):
    """One tensor, in the terms of the Open Inference Protocol; -1 is a free size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Member(Part):
    """One graph of the bundle."""

    sha256: Hex64
    size: Count  # bytes


class SealFacts(Part):
    """How the model is sealed; the sealed model itself holds what is checked."""

    suite: Literal["hkdf-sha512+aes-256-gcm"] = SUITE


class Provenance(Part):
    """Where the model comes from."""

    recipe_sha256: Hex64
    data_fingerprint: Text
    seed: Count = 0  # version 0.1 wrote the training's; it is empty now
    versions: dict[Text, Text]


class AuditHeadline(Part):
    """The last audit in one line: mIoU or accuracy; None if it was not measured."""

    report_sha256: Hex64
    baseline: Share | None
    correct_key: Share | None
    no_key: Share | None
    incorrect_keys_mean: Share | None
    incorrect_keys_max: Share | None


class Facts(Part):
    """The exporter's facts about a model; the other fields follow from them."""

    task: TaskName = "segmentation"
    transform: TransformFacts
    feature_maps: Annotated[
        tuple[FeatureMapFacts, ...], Field(max_length=MAX_LAYERS)
    ] = ()
    normalization: NormalizationFacts
    class_names: Annotated[
        tuple[Text, ...],
        Field(min_length=2, max_length=MAX_CLASSES["classification"]),
    ]
    ignore_index: Annotated[int, Field(ge=0, le=BYTE_MAX)] | None
    image_size: tuple[Side, Side]  # height, width the model was trained at; pixels
    opset: Annotated[int, Field(ge=18, le=23)]
    licence: Text = ""
    provenance: Provenance
    audit: AuditHeadline | None = None

    @model_validator(mode="after")
    def _not_a_class(self) -> Self:
        if self.task == "classification":
            if self.ignore_index is not None:
                raise ValueError("ignore_index of a classification must be null")
            return self
        if self.ignore_index is None:
            raise ValueError("ignore_index of a segmentation must be a number")
        if self.ignore_index < len(self.class_names):
            raise ValueError(f"ignore_index {self.ignore_index} is a class")
        return self

    @model_validator(mode="after")
    def _keyed(self) -> Self:
        layers = [one.layer for one in self.feature_maps]
        if len(set(layers)) != len(layers):
            raise ValueError("feature_maps names a layer twice")
        if not self.transform.methods and not layers:
            raise ValueError(
                "there is neither a method nor a feature map, so nothing is keyed"
            )
        return self

    @property
    def keyed(self) -> KeyedTransforms:
        """The parts of the model that a key acts on."""
        layers = (
            KeyedLayer(one.layer, one.channels, one.signs) for one in self.feature_maps
        )
        return KeyedTransforms(
            self.transform.methods, self.transform.block_size, tuple(layers)
        )

    def key_space(self, *, sealed: bool) -> float:
        """The effective key space against an adversary with the bundle, in bits.

        Methods that the weights show do not count, unless the model is sealed.
        """
        shown = self.transform.shown_by_weights and not sealed
        return round(self.keyed.key_space(shown=shown), 1)


class Manifest(Facts):
    """The manifest of a bundle. Every field is explained in the specification."""

    format: Literal["mlguard.bundle/1"] = Field("mlguard.bundle/1", alias="schema")
    protection_id: Hex32
    key_id: Hex16
    key_commitment: Hex64
    key_space_bits: Number
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    files: dict[str, Member]  # the two graphs, as they lie in the file, by name
    selftest: Hex64
    mac: Hex64
    seal: SealFacts | None = None
    # Reserved. A reader must not ignore a protection that it does not know.
    grants: None = None
    signature: None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.inputs != INPUTS or self.outputs != outputs_of(self):
            raise ValueError("inputs and outputs differ from those of this version")
        if set(self.files) != {PREPROCESS, self.model_member}:
            raise ValueError(f"files must name {PREPROCESS} and {self.model_member}")
        bits = self.key_space(sealed=self.seal is not None)
        if self.key_space_bits != bits:
            raise ValueError(f"key_space_bits: expected {bits}")
        return self

    @property
    def model_member(self) -> str:
        """Which member holds the model."""
        return MODEL if self.seal is None else SEALED_MODEL

    def to_bytes(self, *, without_mac: bool = False) -> bytes:
        """Return the manifest in its one spelling.

        Args:
            without_mac: Leave out the field `mac`, to compute the MAC.
        """
        left_out = {"mac"} if without_mac else None
        fields = self.model_dump(mode="json", by_alias=True, exclude=left_out)
        return canonical(fields)


INPUTS = (TensorFacts(name="images", datatype="UINT8", shape=(-1, 3, -1, -1)),)


def outputs_of(facts: Facts) -> tuple[TensorFacts, ...]:
    """Return the output tensor of a model: scores of every pixel, or of the image."""
    sides = () if facts.task == "classification" else (-1, -1)
    shape = (-1, len(facts.class_names), *sides)
    return (TensorFacts(name="logits", datatype="FP32", shape=shape),)


def slots_of(maps: Iterable[FeatureMapFacts]) -> frozenset[str]:
    """Return the key slots that a model with these keyed feature maps declares."""
    maps = tuple(maps)
    orders = {order_slot(one.layer) for one in maps}
    return frozenset(orders | {signs_slot(one.layer) for one in maps if one.signs})


def parse_manifest(data: bytes, *, name: str) -> Manifest:
    """Read a manifest, refusing every spelling but the canonical one.

    Raises:
        MalformedBundle: The manifest does not follow the specification.
    """
    try:
        refuse_crowded(data)
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        problem = problems_of(error, whole="manifest.json")[0]
        raise MalformedBundle(f"{name}: {problem}") from None
    except ValueError as problem:
        raise MalformedBundle(f"{name}: manifest.json {problem}") from None
    if manifest.to_bytes() != data:
        raise MalformedBundle(f"{name}: manifest.json is not in its canonical spelling")
    return manifest
