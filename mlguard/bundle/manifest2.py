"""The manifest of format 2: any model, any tensors. Canonical JSON, as in format 1.

`Facts2` holds an exporter's facts about a model, `Manifest2` the fields in the file.
The specification is docs/spec/bundle-v2.md, section 2.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from mlguard.bundle.archive2 import (
    GRAPH,
    MANIFEST,
    MEMBERS,
    ORDER,
    PREPROCESS,
    SEALED_GRAPH,
    SEALED_TABLE,
    TABLE,
    WEIGHTS,
)
from mlguard.bundle.backbone import BackboneFacts
from mlguard.bundle.manifest import (
    MAX_INTEGER,
    MAX_LAYERS,
    AuditHeadline,
    FeatureMapFacts,
    Number,
    Part,
    Share,
    Side,
    Text,
    TransformFacts,
)
from mlguard.canonical import Hex16, Hex32, Hex64, canonical
from mlguard.errors import BundleError, MalformedBundle
from mlguard.rules import MAX_CLASSES
from mlguard.transforms import KeyedLayer, KeyedTransforms
from mlguard.validation import problems_of, refuse_crowded

FORMAT = 2
MAX_TENSORS = 4096  # inputs, and outputs, of one model
MAX_CHANNELS = 4096  # of one image
MAX_PLAIN = 1000  # uncovered tensors listed by name
MAX_STRIDE = 1024
SHOWN = 8  # names in a refusal
# Types of tensors, in the terms of the Open Inference Protocol, and BF16 as in Triton.
# Other types are spelled as in onnxruntime.
DATATYPES = (
    *("BOOL", "BYTES", "BF16", "FP16", "FP32", "FP64"),
    *("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
)
OTHER_TYPE = r"(tensor|seq|optional|map|sparse_tensor)\([a-z0-9_(), ]+\)"
DATATYPE = rf"^({'|'.join(DATATYPES)}|{OTHER_TYPE})\z"

Name = Annotated[Text, Field(min_length=1, max_length=1024)]
Size = Annotated[int, Field(ge=0, le=1 << 46)]
Axis = Annotated[int, Field(ge=-1, le=MAX_INTEGER)]
Hex8 = Annotated[str, Field(pattern=r"^[0-9a-f]{8}\z")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Tensor2(Part):
    """One input or output; -1 is a free size, a shape of null any number of axes."""

    name: Name
    datatype: Annotated[str, Field(pattern=DATATYPE, max_length=200)]
    shape: Annotated[tuple[Axis, ...], Field(max_length=64)] | None


class ResizeFacts(Part):
    """How an image of any size is fitted to the model's input.

    Attributes:
        rule: `pad` repeats the edge at bottom and right up to a multiple, and the
            answer is cropped; `stretch` scales to `size`; `crop` scales the shorter
            side and crops the centre.
        multiple: For `pad`, in pixels.
        shorter_side: For `crop`, in pixels.
    """

    rule: Literal["pad", "stretch", "crop"] = "pad"
    multiple: Side = 1
    shorter_side: Side | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.shorter_side is not None) != (self.rule == "crop"):
            raise ValueError("the rule crop needs a shorter_side, and no other has one")
        if self.rule != "pad" and self.multiple != 1:
            raise ValueError("multiple belongs to the rule pad only")
        return self


class ImageFacts(Part):
    """Which input is an image, and how 8-bit pixels become its values.

    The steps, in this order: colours, size, keyed transform, range, mean and std,
        layout.

    Attributes:
        range: The values of 0 and 255; a rescaling by f is [0, 255·f].
        size: The size in training or of the model's input: height and width, or depth
            first.
        transform: The keyed transform, on RGB; null if the key does not act on images.
    """

    input: Name
    layout: Literal["NCHW", "NHWC", "NCDHW", "NDHWC"] = "NCHW"
    colours: Literal["RGB", "BGR", "grey", "channels"] = "RGB"
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 3
    range: tuple[Number, Number] = (0.0, 1.0)
    mean: tuple[Number, ...]
    std: tuple[Positive, ...]
    size: Annotated[tuple[Side, ...], Field(min_length=2, max_length=3)]
    resize: ResizeFacts = ResizeFacts()
    transform: TransformFacts | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.colours != "channels":
            expected = 1 if self.colours == "grey" else 3
            if self.channels != expected:
                raise ValueError(f"{self.colours} has {expected} channels")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError("mean and std need one number for each channel")
        if self.range[0] >= self.range[1]:
            raise ValueError("range must rise")
        if len(self.size) != len(self.layout) - 2:
            raise ValueError(f"size does not fit layout {self.layout}")
        if len(self.size) > 2 and self.resize.rule != "pad":
            raise ValueError("volumes are padded, never scaled")
        return self

    @property
    def is_plain_rgb(self) -> bool:
        """Whether it is what a key can transform and a backbone takes."""
        return (self.layout, self.colours, self.range) == ("NCHW", "RGB", (0.0, 1.0))

    @model_validator(mode="after")
    def _keyed(self) -> Self:
        if self.transform is None:
            return self
        if not self.transform.methods:
            raise ValueError("a transform without methods must be null")
        if not self.is_plain_rgb:
            raise ValueError("a keyed transform needs NCHW, RGB and range [0, 1]")
        sides = self.size if self.resize.rule != "pad" else (self.resize.multiple,)
        if any(side % self.transform.block_size for side in sides):
            raise ValueError(
                "the block size does not divide the size of resized images"
            )
        return self


class TaskFacts(Part):
    """The meaning of the answer.

    Attributes:
        output: The output that holds it: scores of the classes, or boxes of a
            detection.
        stride: The distance of a segmentation's scores, in pixels.
        labels: For a detection: the output with the boxes' classes.
        scores: For a detection: the output with the boxes' scores.
    """

    name: Literal["segmentation", "classification", "detection"]
    output: Name
    class_names: Annotated[
        tuple[Text, ...],
        Field(min_length=2, max_length=MAX_CLASSES["classification"]),
    ]
    ignore_index: Annotated[int, Field(ge=0, le=65535)] | None = None
    stride: Annotated[int, Field(ge=1, le=MAX_STRIDE)] = 1
    labels: Name | None = None
    scores: Name | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        detects, segments = self.name == "detection", self.name == "segmentation"
        if (self.labels is not None) != detects or (self.scores is not None) != detects:
            raise ValueError(
                "a detection needs both labels and scores, and no other task has them"
            )
        if not segments and (self.ignore_index is not None or self.stride != 1):
            raise ValueError("only a segmentation has ignore_index and stride")
        if self.ignore_index is not None and self.ignore_index < len(self.class_names):
            raise ValueError(f"ignore_index {self.ignore_index} is a class")
        return self


class Uncovered(Part):
    """Bytes of the model that lie in the file in the clear."""

    name: Name
    size: Size
    reason: Text


class Coverage(Part):
    """How much of the weights is encrypted under the key.

    Attributes:
        size: Bytes of all tensors.
        covered: How many of them are encrypted under the key.
        plain: The other tensors, the largest first; at most MAX_PLAIN of them.
    """

    size: Size
    covered: Size
    share: Share
    plain: Annotated[tuple[Uncovered, ...], Field(max_length=MAX_PLAIN)] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        left = sum(one.size for one in self.plain)
        named = len(self.plain) == MAX_PLAIN or self.covered + left == self.size
        if self.covered > self.size or left > self.size - self.covered or not named:
            raise ValueError("covered and plain do not add up to size")
        if self.share != share_of(self.covered, self.size):
            raise ValueError("share is not covered divided by size")
        return self


class SealFacts2(Part):
    """What is encrypted. Everything else in the file is authenticated all the same."""

    suite: Literal["sealed-tensors/1"] = "sealed-tensors/1"
    graph: bool = True
    weights: bool = True

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.graph and not self.weights:
            raise ValueError("a sealed graph needs sealed weights")
        return self


class Provenance2(Part):
    """Where the model comes from; recipe and data as keyed hashes, against guesses."""

    recipe: Hex64 | None = None
    data: Hex64 | None = None
    versions: dict[Text, Text] = Field(default_factory=dict)


class PrecisionFacts(Part):
    """Fewer bits for the model's numbers than in training, and what that cost.

    Attributes:
        kind: What they were rounded to.
        images: How many the cost was measured on.
        agreement: Share of pixels, or images, with the same class as before.
        before: The score (mIoU, or accuracy) with all bits; null if there is none.
        after: The score rounded.
    """

    kind: Literal["fp16", "int8"]
    images: Annotated[int, Field(ge=1, le=1 << 32)]
    agreement: Share
    before: Share | None
    after: Share | None


class Member2(Part):
    """One member, as it lies in the file; tags of `weights.bin` are in the table."""

    size: Size
    crc32: Hex8
    tag: Hex32 | None


class Facts2(Part):
    """The exporter's facts about a model."""

    inputs: Annotated[tuple[Tensor2, ...], Field(max_length=MAX_TENSORS)]
    outputs: Annotated[tuple[Tensor2, ...], Field(min_length=1, max_length=MAX_TENSORS)]
    opsets: Annotated[
        dict[Text, Annotated[int, Field(ge=1, le=1 << 16)]],
        Field(min_length=1, max_length=64),
    ]
    image: ImageFacts | None = None
    task: TaskFacts | None = None
    feature_maps: Annotated[
        tuple[FeatureMapFacts, ...], Field(max_length=MAX_LAYERS)
    ] = ()
    licence: Text = ""
    audit: AuditHeadline | None = None
    backbone: BackboneFacts | None = None  # of the private half of a split model
    precision: PrecisionFacts | None = None  # left out of the file if there is none

    @model_validator(mode="after")
    def _in_two_halves(self) -> Self:
        if self.backbone is None:
            return self
        image, given = self.image, {one.name: one for one in self.inputs}
        if image is None or image.transform is not None or not image.is_plain_rgb:
            raise ValueError("backbone: goes with an RGB image that no key transforms")
        if set(given) != {image.input, *(one.name for one in self.backbone.maps)}:
            raise ValueError("backbone: the image and its maps are not the inputs")
        for one in self.backbone.maps:
            asked = given[one.name]
            shape = (-1, one.channels, -1, -1)
            if (asked.datatype, asked.shape) != ("FP16", shape):
                raise ValueError(f"backbone: the input {one.name!r} is no such map")
        return self

    @model_validator(mode="after")
    def _named(self) -> Self:
        inputs = [one.name for one in self.inputs]
        outputs = [one.name for one in self.outputs]
        layers = [one.layer for one in self.feature_maps]
        for kind, names in (
            ("inputs", inputs),
            ("outputs", outputs),
            ("feature_maps", layers),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{kind} has a name twice")
        if self.image is not None and self.image.input not in inputs:
            raise ValueError(
                f"image.input {self.image.input!r} is not an input; they are "
                f"{_shown(inputs)}"
            )
        task = self.task
        wanted = () if task is None else (task.output, task.labels, task.scores)
        for name in wanted:
            if name is not None and name not in outputs:
                raise ValueError(
                    f"the task's output {name!r} is not an output; they are "
                    f"{_shown(outputs)}"
                )
        return self

    @property
    def keyed(self) -> KeyedTransforms:
        """The parts of the model that a key acts on, besides the seal."""
        layers = (
            KeyedLayer(one.layer, one.channels, one.signs) for one in self.feature_maps
        )
        spec = None if self.image is None else self.image.transform
        methods, block = ((), 1) if spec is None else (spec.methods, spec.block_size)
        return KeyedTransforms(methods, block, tuple(layers))


def _shown(names: list[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN]))


class Manifest2(Facts2):
    """The manifest of a bundle. Every field is explained in the specification."""

    format: Literal["mlguard.bundle/2"] = Field("mlguard.bundle/2", alias="schema")
    protection_id: Hex32
    key_id: Hex16
    salt: Hex64
    key_commitment: Hex64
    seal: SealFacts2
    coverage: Coverage
    provenance: Provenance2
    files: dict[str, Member2]
    selftest: Hex64 | None
    issued: bool = (
        False  # whether the file key comes from a grant and not from the model key
    )
    mac: Hex64

    @model_validator(mode="after")
    def _members(self) -> Self:
        wanted = {self.graph_member, self.table_member, WEIGHTS}
        keyed = self.image is not None and self.image.transform is not None
        if keyed:
            wanted |= {PREPROCESS}
        if set(self.files) != wanted:
            raise ValueError(f"files must name {', '.join(sorted(wanted))}")
        if keyed != (self.selftest is not None):
            raise ValueError("selftest is needed with a keyed transform, and only then")
        for name, member in self.files.items():
            if (member.tag is None) != (name == WEIGHTS):
                raise ValueError(f"{name} has an unexpected tag, or lacks one")
            if member.size > MEMBERS[name]:
                raise ValueError(f"{name} announces {member.size} bytes")
        return self

    @property
    def graph_member(self) -> str:
        """Which member holds the graph."""
        return SEALED_GRAPH if self.seal.graph else GRAPH

    @property
    def table_member(self) -> str:
        """Which member holds the table of tensors; it is sealed if the graph is."""
        return SEALED_TABLE if self.seal.graph else TABLE

    @property
    def facts(self) -> Facts2:
        """The exporter's facts about the model, without derived fields."""
        return Facts2(**{name: getattr(self, name) for name in Facts2.model_fields})

    def members(self, own: bytes, crc: int) -> list[tuple[str, int, int]]:
        """Return name, size and checksum of the members, in the file's order.

        Args:
            own: The manifest's bytes.
            crc: Their checksum.
        """
        named = {
            name: (one.size, int(one.crc32, 16)) for name, one in self.files.items()
        }
        named[MANIFEST] = (len(own), crc)
        return [(name, *named[name]) for name in ORDER if name in named]

    def to_bytes(self, *, without_mac: bool = False) -> bytes:
        """Return the manifest in its one spelling.

        Args:
            without_mac: Leave out the field `mac`, to compute the MAC.
        """
        left_out = {"mac"} if without_mac else set[str]()
        for field in ("backbone", "precision"):  # what a manifest need not have
            if getattr(self, field) is None:
                left_out |= {field}
        fields = self.model_dump(mode="json", by_alias=True, exclude=left_out)
        return canonical(fields)


def refuse_newer(data: bytes, *, name: str) -> None:
    """Refuse a manifest of a later format as such, and not as damaged.

    Raises:
        BundleError: It is of a later format.
    """
    found = re.search(rb'"schema":"mlguard\.bundle/(\d{1,4})"', data)
    if found and int(found[1]) > FORMAT:
        raise BundleError(
            f"{name} is of format {int(found[1])}, this version of mlguard reads "
            f"formats up to {FORMAT}",
            hint="install a newer mlguard",
        )


def share_of(covered: int, size: int) -> float:
    """Return covered bytes as a share of all, rounded down; 1 if there are none."""
    return covered * 10_000 // size / 10_000 if size else 1.0


def parse_manifest2(data: bytes, *, name: str) -> Manifest2:
    """Read a manifest, refusing every spelling but the canonical one.

    Raises:
        MalformedBundle: The manifest does not follow the specification.
    """
    try:
        refuse_crowded(data)
        manifest = Manifest2.model_validate_json(data)
    except ValidationError as error:
        refuse_newer(data, name=name)
        problem = problems_of(error, whole=MANIFEST)[0]
        raise MalformedBundle(f"{name}: {problem}") from None
    except ValueError as problem:
        raise MalformedBundle(f"{name}: {MANIFEST} {problem}") from None
    if manifest.to_bytes() != data:
        raise MalformedBundle(f"{name}: {MANIFEST} is not in its canonical spelling")
    return manifest


__all__ = [
    "Coverage",
    "Facts2",
    "ImageFacts",
    "Manifest2",
    "Member2",
    "PrecisionFacts",
    "Provenance2",
    "ResizeFacts",
    "SealFacts2",
    "TaskFacts",
    "Tensor2",
    "Uncovered",
    "parse_manifest2",
    "share_of",
]
