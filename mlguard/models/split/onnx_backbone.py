"""The public half from an ONNX file, up to the tensors that are named as its maps.

onnxruntime runs the file as it is, so a graph of any origin serves, and nothing of it
is rebuilt in torch. Therefore it cannot learn, not even in a plain twin.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper
from torch import Tensor, nn

from mlguard.errors import BundleError, ModelFileError, ProviderError, WeightsError
from mlguard.foreign import (
    check_one_file,
    clear_of,
    keep_needed,
    parse_model,
    read_file,
    settle_inputs,
    without_functions,
)
from mlguard.models.split.backbones import PROBES, MapFacts, facts_of, refused
from mlguard.runtime import Compute
from mlguard.runtime.providers import AUTO, Outside, first_line, load, run_feeds

ARCHITECTURE = "onnx"  # in a manifest, where others have torchvision's name
# What a map may hold, by onnxruntime's name and ONNX's number.
NUMBERS = {"tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16}
ONNX_ERRORS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
COLOURS, RANK = 3, 4
SHOWN = 12  # tensors that a refusal names
TAKEN = {"images", "pixels", "logits"}  # by the halves' own inputs and outputs
UNLIKE = 3.0  # how much more contrast the second image of a probe has
ALONE = 0.02  # of a map's largest number; int8 and half precision give less
MAX_NAME = 200  # characters; a recipe's limit
STALE = ("training_info", "metadata_props", "doc_string", "domain", "model_version")
LAYOUT = "float32 (N, 3, H, W), an RGB image"


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


class PublicGraph:
    """A graph from pixels to maps, and onnxruntime's sessions of it.

    It never changes, so that the copies of a model share it.

    Attributes:
        graph: The part of the file's graph that computes the maps, as its outputs in
            their order.
        sha256: The SHA-256 of the file, in hex.
    """

    def __init__(self, graph: ModelProto, sha256: str, *, name: str) -> None:
        self.graph, self.sha256, self._name = graph, sha256, name
        self._sessions: dict[str, Any] = {}

    @classmethod
    def read(cls, path: Path, maps: Sequence[str] | None = None) -> Self:
        """Read a file, and cut it behind its last map.

        Args:
            path: The file.
            maps: The tensors it is to give; all if None.

        Raises:
            ModelFileError: As in `OnnxBackbone`.
            RecipeError: As in `OnnxBackbone`.
        """
        data, name = read_file(path), str(path)
        model = parse_model(data, name=name)
        check_one_file(model, data, name=name)
        try:
            part = part_of(without_functions(model), maps, name=name)
        except UnicodeDecodeError:
            raise ModelFileError(f"{name} has names that are not UTF-8") from None
        return cls(part, hashlib.sha256(data).hexdigest(), name=name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def kinds(self) -> dict[str, str]:
        """The types of its outputs by their names in the file, as onnxruntime says."""
        outputs = self._session("cpu").get_outputs()
        return {one.name: one.type for one in outputs}

    def run(
        self, pixels: NDArray[np.float32], device: str = "cpu"
    ) -> list[NDArray[Any]]:
        """Compute the maps.

        Args:
            pixels: (N, 3, H, W) float32, normalized.
            device: "cpu", or "cuda" to compute there if onnxruntime can.

        Raises:
            ProviderError: onnxruntime failed, usually for lack of memory.
        """
        outputs = [one.name for one in self.graph.graph.output]
        feeds = {self.graph.graph.input[0].name: pixels}
        return run_feeds(self._session(device), outputs, feeds)

    def of_shapes(self, names: Sequence[str]) -> Self:
        """Return the graph that gives the shapes of some tensors and holds none."""
        model = ModelProto()
        model.CopyFrom(self.graph)
        graph, prefix = model.graph, clear_of("shapes/", tensors_of(model.graph))
        del graph.output[:]
        for place, name in enumerate(names):
            asking = helper.make_node("Shape", [name], [f"{prefix}{place}"])
            graph.node.append(asking)
            graph.output.add(name=asking.output[0])
        keep_needed(graph)
        return type(self)(model, self.sha256, name=self._name)

    def _session(self, device: str) -> Any:
        if device not in self._sessions:
            provider = AUTO if device == "cuda" else "cpu"
            compute = Compute(provider, threads=torch.get_num_threads())
            content = self.graph.SerializeToString(deterministic=True)
            try:
                session = load(content, compute, Outside(), name=self._name)
            except BundleError as error:
                raise refused(str(error), "backbone") from None
            self._sessions[device] = session
        return self._sessions[device]


def part_of(model: ModelProto, maps: Sequence[str] | None, *, name: str) -> ModelProto:
    """Return the part of a model that computes some of its tensors, from any image.

    Args:
        model: The model; it is changed.
        maps: The tensors; all that its nodes make if None.
        name: The model's name in a refusal.

    Raises:
        ModelFileError: Its inputs cannot be told from its weights.
        RecipeError: It has no such tensors, or is not a model of one image.
    """
    settle_inputs(model, freeze=True, name=name)
    image = _image_of(model, name=name)
    graph = model.graph
    made = tensors_of(graph)
    maps = made if maps is None else list(maps)
    known = set(made)
    if unknown := [one for one in maps if one not in known]:
        some = ", ".join(made[-SHOWN:])
        raise refused(f"{name} has no tensor {unknown[0]!r}; its last ones are {some}")
    del graph.value_info[:], graph.output[:]  # sizes in them need not hold any more
    del graph.quantization_annotation[:]
    graph.output.extend(ValueInfoProto(name=one) for one in maps)
    for field in STALE:
        model.ClearField(field)
    keep_needed(graph)
    image.CopyFrom(
        helper.make_tensor_value_info(
            image.name, TensorProto.FLOAT, ["N", COLOURS, "H", "W"]
        )
    )
    return model


def tensors_of(graph: GraphProto) -> list[str]:
    """Return the names of the tensors that a graph's nodes make, in their order."""
    return [out for node in graph.node for out in node.output if out]


def _image_of(model: ModelProto, *, name: str) -> ValueInfoProto:
    """Return the only input, which must be an RGB image."""
    inputs: list[ValueInfoProto] = list(model.graph.input)
    if len(inputs) == 1:
        kind = inputs[0].type.tensor_type
        sizes = [one.dim_value for one in kind.shape.dim]  # 0: free
        takes_colours = len(sizes) == RANK and sizes[1] in (0, COLOURS)
        if kind.elem_type == TensorProto.FLOAT and takes_colours:
            return inputs[0]
    found = ", ".join(_spelled(one) for one in inputs)
    raise refused(f"{name} takes {found}; expected one input, {LAYOUT}", "backbone")


def _spelled(value: ValueInfoProto) -> str:
    kind = value.type.tensor_type
    sizes = ", ".join(one.dim_param or str(one.dim_value) for one in kind.shape.dim)
    return f"{value.name!r}, {TensorProto.DataType.Name(kind.elem_type)} ({sizes})"
