"""The part of an ONNX file's graph that computes some of its tensors from any image.

Nothing in it is rebuilt in torch: onnxruntime runs the file's own nodes.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from mlguard.errors import BundleError, ModelFileError
from mlguard.foreign import (
    check_one_file,
    clear_of,
    keep_needed,
    parse_model,
    read_file,
    settle_inputs,
    without_functions,
)
from mlguard.models.split.backbones import refused
from mlguard.runtime import Compute
from mlguard.runtime.providers import AUTO, Outside, load, run_feeds

COLOURS, RANK = 3, 4
SHOWN = 12  # tensors that a refusal names
STALE = ("training_info", "metadata_props", "doc_string", "domain", "model_version")
LAYOUT = "float32 (N, 3, H, W), an RGB image"


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
