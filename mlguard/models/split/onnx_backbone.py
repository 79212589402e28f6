"""The public half from an ONNX file, up to the tensors that are named as its maps.

onnxruntime runs the file as it is, so a graph of any origin serves, and nothing of it
is rebuilt in torch. Therefore it cannot learn, not even in a plain twin.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from mlguard.errors import ProviderError, WeightsError
from mlguard.models.split.backbones import PROBES, MapFacts, facts_of, refused
from mlguard.models.split.public_graph import COLOURS, PublicGraph
from mlguard.runtime.providers import first_line

ARCHITECTURE = "onnx"  # in a manifest, where others have torchvision's name
# What a map may hold, by onnxruntime's name and ONNX's number.
NUMBERS = {"tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16}
ONNX_ERRORS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
TAKEN = {"images", "pixels", "logits"}  # by the halves' own inputs and outputs
UNLIKE = 3.0  # how much more contrast the second image of a probe has
ALONE = 0.02  # of a map's largest number; int8 and half precision give less
MAX_NAME = 200  # characters; a recipe's limit


class OnnxBackbone(nn.Module):
    """An encoder in an ONNX file, its weights in it.

    Args:
        path: The file.
        maps: Names of tensors in its graph, from fine to coarse.

    Shape:
        pixels   (N, 3, H, W) float32, normalized
        returns  a list of (N, C, ceil(H / stride), ceil(W / stride)) float32

    Raises:
        ModelFileError: The file is missing, or is not an ONNX file.
        RecipeError: It has its weights in other files, does not take images of any
            size, or has no such tensors; or these are not feature maps of rounded-up
            sides, from fine to coarse.
    """

    def __init__(self, path: str, maps: Sequence[str]) -> None:
        super().__init__()
        if unfit := [one for one in maps if not can_be_sent(one)]:
            raise refused(
                f"{unfit[0]!r} of {path} would meet a name of the halves' own, which "
                f"have {', '.join(sorted(TAKEN))}; rename it in the file"
            )
        self.name, self.file = ARCHITECTURE, Path(path).name
        self.public = PublicGraph.read(Path(path), maps)
        for one, kind in self.public.kinds.items():
            if kind not in NUMBERS:
                raise refused(f"{one!r} of {path} is a {kind}, not a map")
        self.maps = self._measured(path, maps)
        self._check_by_onnx(path)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps, from fine to coarse."""
        found = self.public.run(pixels.detach().cpu().numpy(), pixels.device.type)
        return [torch.from_numpy(one).to(pixels.device).float() for one in found]

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, in hex."""
        return self.public.sha256

    def get_extra_state(self) -> Tensor:
        """Return the file's SHA-256, which is kept with the weights of the slices."""
        return torch.tensor(list(bytes.fromhex(self.sha256())), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse slices that were trained beside another file.

        Raises:
            WeightsError: They were.
        """
        expected = bytes(state.flatten().tolist()).hex()
        if expected != self.sha256():
            raise WeightsError(
                f"backbone {self.file}: expected the file that the slices were trained "
                f"beside, SHA-256 {expected}, got SHA-256 {self.sha256()}",
                hint="put that file back where model.backbone of the recipe says",
            )

    def _measured(self, path: str, maps: Sequence[str]) -> tuple[MapFacts, ...]:
        square, odd = probes()
        together, other = self._probed(path, square), self._probed(path, odd)
        facts = facts_of(
            path,
            maps,
            [np.shape(one) for one in together],
            [np.shape(one) for one in other],
        )
        alone = self._probed(path, square[:1])
        for name, one, pair in zip(maps, alone, together, strict=True):
            with np.errstate(over="ignore"):
                sent = pair.astype(np.float16)
            if not np.isfinite(sent).all():
                raise refused(
                    f"{name!r} of {path} has numbers that are not finite in half "
                    "precision, in which a host sends them"
                )
            apart = np.abs(np.subtract(pair[:1], one, dtype=np.float32)).max()
            if not apart <= ALONE * float(np.abs(pair).max()):  # not `>`: NaN differs
                raise refused(
                    f"{name!r} of {path} differs for the same image, beside another "
                    "and alone: the file is in training mode, or draws random numbers"
                )
        return facts

    def _check_by_onnx(self, path: str) -> None:
        """Refuse what onnxruntime runs and the onnx package would not export."""
        graph, kinds = self.public.graph.graph, self.public.kinds
        del graph.output[:]
        for one in self.maps:
            kind, sides = NUMBERS[kinds[one.name]], [one.channels, None, None]
            graph.output.append(
                helper.make_tensor_value_info(one.name, kind, ["N", *sides])
            )
        try:
            onnx.checker.check_model(self.public.graph, full_check=True)
        except (*ONNX_ERRORS, ValueError) as error:
            raise refused(
                f"the onnx package refuses {path}: {first_line(error)}", "backbone"
            ) from None

    def _probed(self, path: str, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        try:
            return self.public.run(images)
        except ProviderError as error:
            count, _, *sides = images.shape
            raise refused(
                f"{path} does not run on {count} images of {sides} pixels, "
                f"and a backbone must take any number and size: {error}"
            ) from None


def probes() -> list[NDArray[np.float32]]:
    """Return images to learn a graph's maps from. Shape: each (N, 3, H, W)."""
    draw = np.random.default_rng(0)
    found = [
        draw.standard_normal((count, COLOURS, *sides), np.float32)
        for count, sides in PROBES
    ]
    for images in found:
        images[1:] *= UNLIKE
    return found


def can_be_sent(name: str) -> bool:
    """Whether a recipe can name a map so, and both halves can give it this name."""
    fits = name.isprintable() and len(name) <= MAX_NAME
    return fits and name.casefold() not in TAKEN
