"""The public half: an encoder with public weights and named feature maps.

It is one of torchvision's, named in `mlguard.recipe.sections.Backbone`, or one of
timm's that torch.fx can trace; `onnx_backbone` takes one from a file. Its maps have
ceil(side / stride) rows and columns for images of every size; an encoder that rounds
down is refused.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from mlguard.errors import RecipeError, WeightsError

PROBED = 256  # pixels a side, a power of two; smaller strides are found
ODD = (65, 97)  # pixels; no stride divides them
PROBES = ((2, (PROBED, PROBED)), (1, ODD))  # how many images, and their sides
TIMM = "timm/"
Shape = tuple[int, ...]
COUNTED = "num_batches_tracked"  # says how long a norm was trained; some files leave it


@dataclass(frozen=True)
class MapFacts:
    """One feature map of an encoder.

    Attributes:
        name: The name of its layer, or of its tensor in an ONNX file.
        channels: The number of its channels.
        stride: Pixels of the image from one row or column to the next.
    """

    name: str
    channels: int
    stride: int


class Backbone(nn.Module):
    """An encoder up to its last requested map, without the rest.

    Args:
        name: The encoder's, as a recipe has it: of torchvision, or timm/NAME.
        maps: Names of layers, from fine to coarse.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  a list of (N, C, ceil(H / stride), ceil(W / stride)) float32

    Raises:
        RecipeError: There is no such encoder, or torch.fx cannot trace it; a layer does
            not exist, or does not return a feature map of rounded-up sides; or they are
            not from fine to coarse.
    """

    def __init__(self, name: str, maps: Sequence[str]) -> None:
        super().__init__()
        whole = whole_encoder(name)
        known = [layer for layer, _ in whole.named_modules()]
        if unknown := [layer for layer in maps if layer not in known]:
            some = ", ".join(one for one in known if one.count(".") == 1)[:300]
            raise refused(f"{name} has no layer {unknown[0]!r}; it has {some}, …")
        try:
            self.encoder = create_feature_extractor(whole, {one: one for one in maps})
        except TraceError:  # a ValueError as well
            raise refused(f"torch.fx cannot trace {name}; take another") from None
        except ValueError:
            raise refused(f"{name} does not use all of {', '.join(maps)}") from None
        self.name, self._maps = name, tuple(maps)
        self.maps = self._measured()

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps, from fine to coarse."""
        found = self.encoder(pixels)
        return [found[name] for name in self._maps]

    def load_public(self, tensors: dict[str, Tensor], *, source: str) -> None:
        """Load public weights into all tensors of the encoder.

        Args:
            tensors: The tensors by torchvision's names; others are ignored.
            source: Their name in a refusal.

        Raises:
            WeightsError: They belong to another encoder.
        """
        own = self.encoder.state_dict()
        for name, value in own.items():
            given = tensors.get(name, tensors.get(f"features.{name}"))
            if given is None and name.endswith(COUNTED):
                continue
            if given is None or given.shape != value.shape:
                what = "no" if given is None else "another"
                raise WeightsError(
                    f"weights {source}: {what} tensor {name} of {tuple(value.shape)}, "
                    f"which {self.name} has",
                    hint="model.weights must be the public weights of model.backbone",
                )
            value.copy_(given)

    def sha256(self) -> str:
        """Return the SHA-256 of the weights in hex, which anybody can recompute.

        It covers every tensor but counters of batches, in the order of their names: the
        name, a zero byte, the sizes joined by commas, a zero byte, the numbers as
        little-endian float32. docs/spec/bundle-v2.md, section 2.3.
        """
        digest = hashlib.sha256()
        for name, value in sorted(self.encoder.state_dict().items()):
            if name.endswith(COUNTED):
                continue
            sizes = ",".join(map(str, value.shape))
            digest.update(f"{name}\0{sizes}\0".encode())
            digest.update(value.cpu().numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    def _measured(self) -> tuple[MapFacts, ...]:
        """Return the facts of the maps, without computing anything."""
        hollow = copy.deepcopy(self).to("meta").eval()
        with torch.inference_mode():
            found = [
                hollow(torch.empty(count, 3, *sides, device="meta"))
                for count, sides in PROBES
            ]
        shapes = [[shape_of(one) for one in maps] for maps in found]
        return facts_of(self.name, self._maps, *shapes)


def shape_of(output: object) -> Shape:
    """Return the shape of what a layer gives; empty if that is no tensor."""
    return tuple(output.shape) if isinstance(output, Tensor) else ()


def facts_of(
    encoder: str,
    maps: Sequence[str],
    square: Sequence[Shape],
    odd: Sequence[Shape],
) -> tuple[MapFacts, ...]:
    """Return the facts of an encoder's maps.

    Args:
        encoder: Its name in a refusal.
        maps: Their names, from fine to coarse.
        square: Their shapes for the first images of PROBES.
        odd: Their shapes for the second.

    Raises:
        RecipeError: One is no feature map, or its sides are not rounded up; or they are
            not from fine to coarse.
    """
    facts = []
    (pair, _), (one_image, _) = PROBES
    for name, shape in zip(maps, square, strict=True):
        fits = len(shape) == 4 and shape[0] == pair and shape[1] > 0
        if not fits or not 1 < shape[2] <= PROBED:
            raise refused(f"{name!r} of {encoder} gives no feature map")
        if PROBED % shape[2]:
            raise refused(
                f"{name!r} of {encoder} has {shape[2]} rows for {PROBED} pixels, "
                "expected a stride that is a power of two"
            )
        facts.append(MapFacts(name, shape[1], PROBED // shape[2]))
    for about, shape in zip(facts, odd, strict=True):
        if shape[:2] != (one_image, about.channels):
            raise refused(f"{about.name!r} of {encoder} gives no feature map")
        if shape[2:] != tuple(-(-side // about.stride) for side in ODD):
            raise refused(
                f"{about.name!r} of {encoder} has {list(shape[2:])} rows and columns "
                f"for an image of {list(ODD)}; expected sides divided by its stride, "
                f"{about.stride}, and rounded up"
            )
    strides = [one.stride for one in facts]
    if strides != sorted(set(strides)):
        raise refused(
            "expected maps from fine to coarse, no two as fine; those of "
            f"{', '.join(maps)} have strides of {strides} pixels"
        )
    return tuple(facts)


def whole_encoder(name: str) -> nn.Module:
    """Build an encoder of torchvision or timm, with random weights and its head.

    Raises:
        RecipeError: There is none of that name.
    """
    if not name.startswith(TIMM):
        built: nn.Module = get_model(name, weights=None)
        return built
    try:
        import timm
    except ImportError:
        raise refused(
            f"{name} needs the package timm: pip install timm", "backbone"
        ) from None
    short = name.removeprefix(TIMM)
    if not timm.is_model(short):
        raise refused(f"timm {timm.__version__} has no model {short!r}", "backbone")
    created: nn.Module = timm.create_model(short, pretrained=False)
    return created


def refused(problem: str, field: str = "maps") -> RecipeError:
    """Return the refusal of a field of [model]."""
    refusal = RecipeError("model", [f"model.{field}: {problem}"])
    if field == "maps":
        refusal.hint = "`mlguard layers RECIPE` lists the maps that a backbone can send"
    return refusal
