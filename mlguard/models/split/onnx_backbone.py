"""The public half from an ONNX file, up to the tensors that are named as its maps.

onnxruntime runs the file as it is, so a graph of any origin serves, and nothing of it
is rebuilt in torch. Therefore it cannot learn, not even in a plain twin.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from torch import Tensor, nn

from mlguard.errors import BundleError, ModelFileError, ProviderError, WeightsError
from mlguard.foreign import parse_model, read_file, settle_inputs
from mlguard.models.split.backbones import ODD, PROBED, MapFacts, facts_of, refused
from mlguard.runtime import Compute
from mlguard.runtime.providers import AUTO, Outside, load, run_feeds

ARCHITECTURE = "onnx"  # in a manifest, where others have torchvision's name
PREFIX = "public/"  # before all names of the file: those of both halves are free then
NUMBERS = {"tensor(float)", "tensor(float16)"}  # what a map may hold
COLOURS, RANK = 3, 4
SHOWN = 12  # tensors that a refusal names
SQUARE = (PROBED, PROBED)
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
        self.name, self.file = ARCHITECTURE, Path(path).name
        self.public = PublicGraph.read(Path(path), maps)
        for one, kind in self.public.kinds.items():
            if kind not in NUMBERS:
                raise refused(f"{one!r} of {path} is a {kind}, not a map")
        self.maps = self._measured(path, maps)

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
        shapes: list[list[tuple[int, ...]]] = []
        for count, sides in ((2, SQUARE), (1, ODD)):
            images = np.zeros((count, COLOURS, *sides), np.float32)
            try:
                found = self.public.run(images)
            except ProviderError as error:
                raise refused(
                    f"{path} does not run on {count} images of {list(sides)} pixels, "
                    f"and a backbone must take any number and size: {error}"
                ) from None
            shapes.append([np.shape(one) for one in found])
        return facts_of(path, maps, *shapes)


class PublicGraph:
    """A graph from pixels to maps, and onnxruntime's sessions of it.

    It never changes, so that the copies of a model share it.

    Attributes:
        graph: The part of the file's graph that computes the maps, as its outputs in
            their order; all its names begin with PREFIX.
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
        data = read_file(path)
        model = parse_model(data, name=str(path))
        part = part_of(model, maps, name=str(path))
        return cls(part, hashlib.sha256(data).hexdigest(), name=str(path))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def kinds(self) -> dict[str, str]:
        """The types of its outputs by their names in the file, as onnxruntime says."""
        outputs = self._session("cpu").get_outputs()
        return {one.name.removeprefix(PREFIX): one.type for one in outputs}

    def run(
        self,
        pixels: NDArray[np.float32],
        device: str = "cpu",
        only: Sequence[str] | None = None,
    ) -> list[NDArray[Any]]:
        """Compute the maps.

        Args:
            pixels: (N, 3, H, W) float32, normalized.
            device: "cpu", or "cuda" to compute there if onnxruntime can.
            only: The outputs to compute, by their names in the file; all if None.

        Raises:
            ProviderError: onnxruntime failed, usually for lack of memory.
        """
        outputs = [one.name for one in self.graph.graph.output]
        if only is not None:
            outputs = [PREFIX + one for one in only]
        feeds = {self.graph.graph.input[0].name: pixels}
        return run_feeds(self._session(device), outputs, feeds)

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
    _refuse_data_files(model, name=name)
    image = _image_of(model, name=name)
    graph = model.graph
    made = [out for node in graph.node for out in node.output if out]
    maps = made if maps is None else list(maps)
    if unknown := [one for one in maps if one not in made]:
        some = ", ".join(made[-SHOWN:])
        raise refused(f"{name} has no tensor {unknown[0]!r}; its last ones are {some}")
    del graph.value_info[:], graph.output[:]  # sizes in them need not hold any more
    graph.output.extend(ValueInfoProto(name=one) for one in maps)
    image.CopyFrom(
        helper.make_tensor_value_info(
            image.name, TensorProto.FLOAT, ["N", COLOURS, "H", "W"]
        )
    )
    try:
        part = onnx.utils.Extractor(model).extract_model([image.name], maps)
    except ValueError as error:
        raise refused(f"{name} cannot be cut: {error}", "backbone") from None
    return onnx.compose.add_prefix(part, PREFIX)


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


def _refuse_data_files(model: ModelProto, *, name: str) -> None:
    held: Iterable[TensorProto] = model.graph.initializer
    if any(one.data_location == TensorProto.EXTERNAL for one in held):
        raise ModelFileError(
            f"{name} has its weights in other files, expected one file",
            hint="join them: onnx.save(onnx.load(FILE), NEW)",
        )
