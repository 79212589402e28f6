"""Step 0: read a recipe, one TOML file that says everything about one protected model.

A recipe can name only what this module lists. It cannot name a Python object to
import, so reading a recipe from a stranger never runs a stranger's code, and it has
no place for a secret: the key is named on the command line. Every option is
explained in the header of `recipes/fcn_voc.toml`.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from mlguard.errors import RecipeError
from mlguard.files import read_bounded
from mlguard.tasks import MAX_CLASSES, TaskName

FORMAT = 1
MAX_RECIPE_BYTES = 1 << 20  # a recipe is a page of text; anything larger is not one
# Far above what anyone trains, far below what a computer cannot hold: a number with
# some zeros too many is named at once, and not by a machine that stops answering.
MAX_SIDE = 8192  # pixels
MAX_IMAGES = 1_000_000  # of a split
MAX_BATCH = 65_536  # images
MAX_EPOCHS = 100_000
MAX_KEYS = 100_000
MAX_SHARES = 100  # points of the curve of nearby keys
MAX_LAYERS = 256
MAX_SEGMENTED = 255  # a mask is one byte a pixel, and one value is ignored
MAX_SHOWN = 100  # characters of a value in a refusal
UNREADABLE = "holds a number with thousands of digits, or too much within each other"
ORTHOGONAL_SIZES = (2, 4, 8, 16)  # above, its sums would not be exact
BLOCK_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # pixels; arXiv:2107.09362, table 1

Kind = Literal["voc", "folder", "shapes", "cifar10", "imagefolder", "imagenet"]
CLASSIFIED = ("cifar10", "imagefolder", "imagenet")  # kinds whose images have one class
Classifier = Literal[
    "cnn_small", "mobilenet_v2", "resnet18", "resnet18_cifar", "resnet50"
]
CLASSIFIERS: tuple[str, ...] = get_args(Classifier)
ImageMethod = Literal["shf", "np", "ffx", "orthogonal"]
Method = Literal["shf", "np", "ffx", "orthogonal", "channels"]
CHANNELS: Final = "channels"  # the one method that acts inside the model
AttackName = Literal[
    "without-key",
    "exhaustive",
    "integer-seeds",
    "hill-climbing",
    "gradient",
    "weights-only",
    "public-ancestor",
    "known-plaintext",
    "transformed-images",
    "retraining",
]
ALL_ATTACKS: tuple[AttackName, ...] = get_args(AttackName)
# No key of a model that was protected here is an integer seed, so nobody waits for it.
BY_DEFAULT = tuple(name for name in ALL_ATTACKS if name != "integer-seeds")
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Images = Annotated[int, Field(ge=1, le=MAX_IMAGES)]
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
Keys = Annotated[int, Field(ge=1, le=MAX_KEYS)]
Rgb = tuple[float, float, float]


def _printable(text: str) -> str:
    if not text.isprintable():  # it is shown in terminals and written into bundles
        raise ValueError("holds control characters")
    return text


Text = Annotated[str, AfterValidator(_printable)]
Layer = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\z", max_length=200)
]


class _Section(BaseModel):
    """Frozen, closed to unknown fields, no silent conversions such as "3" to 3."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


class Data(_Section):
    """Where the images are, and what their masks or folders mean."""

    kind: Kind
    class_names: Annotated[
        tuple[Text, ...], Field(max_length=MAX_CLASSES["classification"])
    ] = ()
    ignore_index: Annotated[int, Field(ge=0, le=255)] = 255
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
        """What a model for these images is asked for."""
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
            raise ValueError("pad: crop_scale and crop_ratio do not go with it")
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


class Transform(_Section):
    """What the key does to an image, and to feature maps inside the model."""

    method: Method | tuple[Method, ...]  # one name, or a list applied in its order
    block_size: int = 1  # M, pixels; of the methods that work on images
    layers: Annotated[tuple[Layer, ...], Field(max_length=MAX_LAYERS)] = ()
    signs: bool = False  # whether `channels` flips signs too

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods in the order they are applied."""
        return (self.method,) if isinstance(self.method, str) else self.method

    @property
    def image_methods(self) -> tuple[ImageMethod, ...]:
        """Those that work on images, in the order they are applied."""
        return tuple(method for method in self.methods if method != CHANNELS)

    @property
    def image_block_size(self) -> int:
        """M, in pixels; 1 where no method works on images."""
        return self.block_size if self.image_methods else 1

    @model_validator(mode="after")
    def _composable(self) -> Self:
        if self.block_size not in BLOCK_SIZES:
            sizes = ", ".join(map(str, BLOCK_SIZES))
            raise ValueError(f"block_size: expected one of {sizes}")
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise ValueError("method: expected one or more different methods")
        if "ffx" in self.methods and "np" in self.methods[self.methods.index("ffx") :]:
            raise ValueError("method: np works on 0…255, so it must come before ffx")
        if "orthogonal" in self.methods:
            if len(self.image_methods) > 1:
                raise ValueError("method: orthogonal goes with no other but channels")
            if self.block_size not in ORTHOGONAL_SIZES:
                sizes = ", ".join(map(str, ORTHOGONAL_SIZES))
                raise ValueError(f"block_size: orthogonal works on {sizes}")
        if self.image_methods and "block_size" not in self.model_fields_set:
            raise ValueError("block_size: Field required")
        return self

    @model_validator(mode="after")
    def _layers_of_channels(self) -> Self:
        if len(set(self.layers)) != len(self.layers):
            raise ValueError("layers: one of them is named twice")
        if CHANNELS in self.methods and not self.layers:
            raise ValueError(
                "layers: channels permutes the layers named here, and there are none; "
                "`mlguard layers RECIPE` lists them"
            )
        if CHANNELS not in self.methods and (self.layers or self.signs):
            raise ValueError("layers and signs go with the method channels")
        return self


class Model(_Section):
    """The architecture, and the weights it starts from."""

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
        Classifier,
    ]
    weights: str = "none"  # "none", a .safetensors file, or a torchvision enum member
    mean: Rgb | None = None  # of an image in [0, 1]; None takes the weights' own
    std: tuple[Positive, Positive, Positive] | None = None
    # What `mlguard bind` does to the architecture; docs/bind.md.
    stem: Literal["plain", "blocks"] = "plain"  # blocks: its windows are whole blocks
    batch_norm: Literal["running", "folded"] = "running"  # folded: ship no statistics

    @model_validator(mode="after")
    def _normalization(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        if self.weights.endswith(".safetensors") and self.mean is None:
            raise ValueError("a weights file needs the mean and std it was trained on")
        return self


class Train(_Section):
    """One training run."""

    epochs: Epochs
    batch: Annotated[int, Field(ge=2, le=MAX_BATCH)]  # images, over all processes
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


class Lock(_Section):
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
            raise ValueError("distill needs the file of a teacher")
        return self


class Export(_Section):
    """The ONNX graph."""

    opset: Annotated[int, Field(ge=18, le=23)] = 20
    seal: bool = True  # encrypt the model; other runtimes cannot open it then
    licence: Text = ""  # terms shown to whoever opens the bundle


class Audit(_Section):
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
    # A claim is made by setting its threshold.
    min_fidelity: Fraction | None = None  # correct key / baseline
    max_leakage: Fraction | None = None  # of no key and of every random key
    max_key_search: Fraction | None = None  # stolen value, as the next two
    max_retraining: Fraction | None = None
    max_known_plaintext: Fraction | None = None
    max_public_ancestor: Fraction | None = None


class Recipe(_Section):
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
            raise ValueError("model.stem: blocks are those of a method on images")
        return self

    @model_validator(mode="after")
    def _of_one_task(self) -> Self:
        classifies = self.data.task == "classification"
        if (self.model.name in CLASSIFIERS) != classifies:
            raise ValueError(
                f"model.name: {self.model.name} does not fit data.kind "
                f"{self.data.kind}, which asks for a {self.data.task}; "
                f"{', '.join(CLASSIFIERS)} classify, the others segment"
            )
        wrong = "best_validation_miou" if classifies else "best_validation_accuracy"
        if self.train.keep == wrong:
            raise ValueError(
                f"train.keep: {wrong} does not exist for a {self.data.task}"
            )
        return self


def parse_recipe(text: str, *, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Parse and check the text of a recipe.

    Args:
        text: TOML.
        name: What to call the recipe in a refusal.
        overrides: `section.field=value`, the value in TOML or a bare word.

    Raises:
        RecipeError: The text is not TOML, or has unknown, missing or unfit fields.
            Every problem is listed, not only the first.
    """
    table = _loads(text, name)
    for override in overrides:
        _override(table, override, name)
    try:
        return Recipe.model_validate(_tuples(table))
    except ValidationError as error:
        raise RecipeError(name, _problems(error)) from None
    except RecursionError:
        raise RecipeError(name, [UNREADABLE]) from None


def read_recipe(name: str, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by its name among the shipped ones, or from a file.

    Raises:
        RecipeError: There is no such recipe, or it is unfit.
    """
    return parse_recipe(recipe_text(name), name=name, overrides=overrides)


def recipe_text(name: str) -> str:
    """The text of a shipped recipe, or of a file, comments and all.

    Raises:
        RecipeError: There is no such recipe, or it is not a text of a recipe's size.
    """
    shipped = shipped_recipes()
    path = shipped.get(name, Path(name))
    try:
        return read_bounded(path, MAX_RECIPE_BYTES).decode()
    except FileNotFoundError:
        known = ", ".join(shipped)
        raise RecipeError(
            name, [f"no such file or recipe; known are {known}"]
        ) from None
    except OSError as error:
        raise RecipeError(name, [f"cannot be read: {error.strerror}"]) from None
    except ValueError as error:  # not UTF-8, or a path with a zero byte
        raise RecipeError(name, [f"cannot be read as text: {error}"]) from None


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with mlguard, by name."""
    installed = Path(str(resources.files("mlguard"))) / "recipes"
    checkout = Path(__file__).parents[1] / "recipes"
    folder = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as TOML: every field, defaults included."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def recipe_sha256(recipe: Recipe) -> str:
    """Digest of the resolved recipe, in hex."""
    return hashlib.sha256(dump_recipe(recipe).encode()).hexdigest()


def _override(table: dict[str, Any], override: str, name: str) -> None:
    path, equals, value = override.partition("=")
    *sections, field = path.strip().split(".")
    shown = _shortened(override)
    if not equals or not field or len(sections) > 1:
        raise RecipeError(name, [f"--set {shown}: expected section.field=value"])
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(name, [f"--set {shown}: {section} is not a section"])
    try:
        table[field] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[field] = value.strip()
    except (ValueError, RecursionError):
        raise RecipeError(name, [f"--set {shown}: {UNREADABLE}"]) from None


def _loads(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(name, [f"not TOML: {_shortened(str(error))}"]) from None
    except (ValueError, RecursionError):  # of int() and of the parser
        raise RecipeError(name, [UNREADABLE]) from None


def _tuples(value: Any) -> Any:
    """TOML arrays as tuples, which is what strict pydantic fields expect."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _problems(error: ValidationError) -> list[str]:
    """One line for each field at fault. A union names its field once per branch."""
    said: dict[str, str] = {}
    for problem in error.errors():
        branches = (part for part in problem["loc"] if "[" not in str(part))
        said.setdefault(_shortened(".".join(map(str, branches))), _said(problem))
    return [f"{field}: {words}" if field else words for field, words in said.items()]


def _said(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return "unknown field"
    if problem["type"] in {"missing", "value_error"}:
        return message
    return f"{message}, got {_shown(problem['input'])}"


def _shown(value: Any) -> str:
    try:
        return _shortened(repr(value))
    except (ValueError, RecursionError):  # repr() does not write the longest numbers
        return "what is too long to show"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
