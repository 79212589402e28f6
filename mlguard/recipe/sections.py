"""A whole recipe, and its sections after [data] and [transform]."""

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from mlguard.nearest import did_you_mean
from mlguard.recipe.data import Data
from mlguard.recipe.fields import (
    MAX_BATCH,
    MAX_KEY_BITS,
    MAX_KEYS,
    MAX_WIDTH,
    Epochs,
    Fraction,
    Keys,
    MapName,
    Positive,
    Rgb,
    Section,
    Text,
    Width,
)
from mlguard.recipe.transform import Transform
from mlguard.rules import ALL_ATTACKS, AttackName

LEAST_BATCH = 2  # images: batch norm needs two
MAX_SHARES = 100  # points of the curve of nearby keys

MAX_MAPS = 8  # feature maps of a backbone that a private half reads
MAX_VIEWS = 10_000  # of one training image
MAX_CACHE_GB = 100_000.0

Classifier = Literal[
    "cnn_small",
    "mobilenet_v2",
    "resnet18",
    "resnet18_cifar",
    "resnet50",
    "sliced_classifier",
]
CLASSIFIERS: tuple[str, ...] = get_args(Classifier)
SLICED = ("sliced_segmenter", "sliced_classifier")  # in two halves
# Encoders of torchvision with public weights, whose maps have ceil(side / stride) rows
# and columns; docs/split.md.
Backbone = Literal[
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_v2_s",
    "mnasnet0_5",
    "mnasnet1_0",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_x_1_6gf",
    "regnet_y_400mf",
    "regnet_y_1_6gf",
    "regnet_y_3_2gf",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "wide_resnet50_2",
]
TIMM_NAME = re.compile(r"timm/[a-z0-9_]{1,100}")  # a model of timm, without a dot
ONNX_FILE = ".onnx"  # how a backbone's name ends that is a file, its weights in it
MAX_PATH = 4096  # characters


def _backbone(name: str) -> str:
    if name.endswith(ONNX_FILE) or TIMM_NAME.fullmatch(name):
        return name
    if name not in get_args(Backbone):
        known = ", ".join(get_args(Backbone))
        near = did_you_mean(name, get_args(Backbone))
        raise ValueError(f"expected FILE.onnx, timm/NAME, or one of {known}{near}")
    return name


BackboneName = Annotated[Text, Field(max_length=MAX_PATH), AfterValidator(_backbone)]
# Keys of models protected here are never integer seeds, so this attack is off by
# default.
BY_DEFAULT = tuple(name for name in ALL_ATTACKS if name != "integer-seeds")


class Model(Section):
    """The architecture, and its initial weights."""

    name: Literal[
        "fcn_small",
        "fcn_patch_small",
        "fcn_mobilenet_v2",
        "fcn_resnet50",
        "fcn_resnet101",
        "deeplabv3_resnet50",
        "deeplabv3_resnet101",
        "deeplabv3_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large",
        "fcn_convnext_tiny",
        "upernet_swin_t",
        "setr_vit_b_16",
        "sliced_segmenter",
        Classifier,
    ]
    # Of a model in two halves: the public encoder, which layers' outputs (of an ONNX
    # file: which tensors) it sends from fine to coarse, and the channels of the private
    # slices that read them.
    backbone: BackboneName | None = None
    maps: Annotated[tuple[MapName, ...], Field(max_length=MAX_MAPS)] = ()
    widths: Annotated[tuple[Width, ...], Field(max_length=MAX_MAPS)] = ()
    side: Annotated[int, Field(ge=0, le=MAX_WIDTH)] = 0  # channels on the image itself
    weights: str = "none"  # "none", a .safetensors file, or a torchvision enum member
    mean: Rgb | None = None  # of an image in [0, 1]; None takes the weights' own
    std: tuple[Positive, Positive, Positive] | None = None
    # How `mlguard bind` changes the architecture; docs/bind.md.
    stem: Literal["plain", "blocks"] = "plain"  # blocks: its windows are whole blocks
    batch_norm: Literal["running", "folded"] = "running"  # folded: ship no statistics

    @property
    def backbone_is_file(self) -> bool:
        """Whether the backbone is an ONNX file, with its weights in it."""
        return self.backbone is not None and self.backbone.endswith(ONNX_FILE)

    @model_validator(mode="after")
    def _normalization(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given together")
        if self.weights.endswith(".safetensors") and self.mean is None:
            raise ValueError("a weights file needs the mean and std it was trained on")
        if self.backbone_is_file and self.mean is None:
            raise ValueError("an ONNX backbone needs the mean and std of its training")
        return self

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.name not in SLICED:
            if self.backbone or self.maps or self.widths or self.side:
                raise ValueError(
                    f"backbone, maps, widths and side go with {' and '.join(SLICED)}, "
                    f"not with {self.name}"
                )
            return self
        if self.backbone is None or not self.maps:
            raise ValueError(f"{self.name} needs a backbone, and maps that it sends")
        if len(self.widths) != len(self.maps):
            raise ValueError(
                f"widths: expected one for each of {len(self.maps)} maps, got "
                f"{len(self.widths)}"
            )
        if len({one.casefold() for one in self.maps}) != len(self.maps):
            raise ValueError("maps: one is named twice, or two differ only in case")
        if self.backbone_is_file and self.weights != "none":
            raise ValueError(
                f"weights: expected none, for those of {self.backbone} are in the file"
            )
        if (self.stem, self.batch_norm) != ("plain", "running"):
            raise ValueError(
                f"stem and batch_norm are what bind does, and {self.name} is trained"
            )
        return self


class Train(Section):
    """One training run."""

    epochs: Epochs
    batch: Annotated[
        int, Field(ge=LEAST_BATCH, le=MAX_BATCH)
    ]  # images, over all processes
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.1
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["cosine_restarts", "one_cycle", "poly", "constant"] = "one_cycle"
    restart_epochs: Epochs = 10  # for cosine_restarts
    momentum: Fraction = 0.9  # SGD's momentum, AdamW's beta1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    encoder_learning_rate: Fraction = 1.0  # factor on the pretrained encoder's rate
    aux_loss: Annotated[float, Field(ge=0)] = 0.0  # weight of the auxiliary head
    keep: Literal[
        "best_validation_loss",
        "best_validation_miou",
        "best_validation_accuracy",
        "last",
    ] = "best_validation_loss"
    precision: Literal["no", "fp16", "bf16"] = "no"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    ramp_epochs: Annotated[float, Field(ge=0)] = 0.0  # from plain images to keyed
    checkpoint_s: Positive = 300.0  # seconds between checkpoints within an epoch
    # Of the method split: how many crops of each image there are in the whole run, so
    # that the backbone sees each once (0: a new one every epoch), and the most that
    # what it says of them takes on the disk while training.
    views: Annotated[int, Field(ge=0, le=MAX_VIEWS)] = 0
    cache_gb: Annotated[float, Field(ge=0, le=MAX_CACHE_GB)] = 2.0  # 10⁹ bytes


class Lock(Section):
    """Lock training, experimental: useless answers for users without the key."""

    weight: Annotated[float, Field(ge=0, le=100)] = 0.0  # beside the task; 0: off
    ramp_epochs: Annotated[float, Field(ge=0)] = 0.0  # over which the weight grows
    keys: Annotated[int, Field(ge=1, le=MAX_KEYS)] = 64  # random, and as many nearby
    nearby: Annotated[float, Field(gt=0, le=1)] = 0.25  # share changed in nearby keys
    statistics: Literal["frozen", "shared"] = "frozen"  # of batch norms
    teacher: str = "none"  # a .safetensors file of the plain model, whose answers …
    distill: Annotated[float, Field(ge=0, le=100)] = 0.0  # … are kept with this weight

    @model_validator(mode="after")
    def _taught(self) -> Self:
        if self.distill and self.teacher == "none":
            raise ValueError("distill needs a teacher file")
        return self


class Export(Section):
    """The ONNX graph."""

    opset: Annotated[int, Field(ge=18, le=23)] = 20
    seal: bool = True  # encrypt the model; other runtimes cannot open it then
    licence: Text = ""  # terms shown to whoever opens the bundle


class Audit(Section):
    """What the audit tries, and what counts as a pass."""

    incorrect_keys: Keys = 100
    nearby: Annotated[tuple[Fraction, ...], Field(max_length=MAX_SHARES)] = (
        0.05, 0.1, 0.25, 0.5,
    )  # share of the key changed  # fmt: skip
    nearby_keys: Keys = 5  # keys at each share
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 16
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    budget: Literal["none", "quick", "standard", "thorough"] = "none"
    attacks: Annotated[tuple[AttackName, ...], Field(min_length=1)] = BY_DEFAULT
    # A threshold that is set is a claim, or replaces a default one.
    min_fidelity: Fraction | None = None  # correct key / baseline
    max_leakage: Fraction | None = None  # of no key and of every random key
    min_key_bits: Annotated[float, Field(ge=0, le=MAX_KEY_BITS)] | None = None
    max_stolen_value: Fraction | None = None  # of every attack without the key's work
    max_key_search: Fraction | None = None  # stolen value, as the next two
    max_retraining: Fraction | None = None
    max_known_plaintext: Fraction | None = None
    max_public_ancestor: Fraction | None = None


class Recipe(Section):
    """A whole recipe, its sections in the order of the data."""

    recipe: Literal[1]
    data: Data
    transform: Transform
    model: Model
    train: Train
    lock: Lock = Lock()
    export: Export = Export()
    audit: Audit = Audit()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        block = self.transform.image_block_size
        if any(side % block for side in self.data.size):
            height, width = self.data.size
            raise ValueError(
                f"transform.block_size: {block} does not divide data.size "
                f"{height} x {width}"
            )
        if self.model.stem == "blocks" and not self.transform.image_methods:
            raise ValueError("model.stem: blocks needs a method on images")
        return self

    @model_validator(mode="after")
    def _in_two_halves(self) -> Self:
        splits = self.transform.splits
        if splits != (self.model.name in SLICED):
            raise ValueError(
                f"model.name: {self.model.name} does not go with transform.method "
                f"{'+'.join(self.transform.methods)}; {' and '.join(SLICED)} are in "
                "two halves, which split trains, and no others"
            )
        if self.train.views and not splits:
            raise ValueError("train.views: only split looks at the same crops again")
        if splits and self.model.weights == "none" and not self.model.backbone_is_file:
            raise ValueError(
                "model.weights: split needs the public weights of model.backbone"
            )
        if splits and (self.lock.weight or self.lock.distill):
            raise ValueError("lock: without the key there is nothing that could answer")
        return self

    @model_validator(mode="after")
    def _passports(self) -> Self:
        if not self.transform.keys_norms:
            return self
        if self.data.task != "classification":
            raise ValueError(
                "transform.method: passport is for classification, and data.kind "
                f"{self.data.kind} is for {self.data.task}"
            )
        if self.model.batch_norm == "folded":
            raise ValueError(
                "model.batch_norm: folded leaves no batch norm, and passport gives "
                "batch norms their scale and bias"
            )
        if self.lock.weight or self.lock.distill:
            raise ValueError("lock: it does not go with the method passport")
        return self

    @model_validator(mode="after")
    def _of_one_task(self) -> Self:
        classifies = self.data.task == "classification"
        if (self.model.name in CLASSIFIERS) != classifies:
            raise ValueError(
                f"model.name: {self.model.name} does not fit data.kind "
                f"{self.data.kind}, which needs a {self.data.task} model; "
                f"{', '.join(CLASSIFIERS)} classify, the others segment"
            )
        wrong = "best_validation_miou" if classifies else "best_validation_accuracy"
        if self.train.keep == wrong:
            raise ValueError(
                f"train.keep: {wrong} is not a score of a {self.data.task}"
            )
        return self
