"""Read and write the weights of a run as a safetensors file."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from mlguard.errors import MalformedRun
from mlguard.files import atomic_fill
from mlguard.protect.key_work import Build, hollow_model
from mlguard.protect.run_folder.tensor_files import hashed_file, tensors_of
from mlguard.recipe import Recipe

PRIVATE = 0o600  # permission bits of all files that a run writes
HEADER_BYTES = 1 << 24  # more than the names of any model's tensors take
DTYPES = {  # as the format names them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
WIDEST = 2  # how many times as wide as the model's a file's numbers may be


def read_model(path: Path, recipe: Recipe, build: Build | None = None) -> nn.Module:
    """Return a recipe's model with the weights of a file, in eval mode, on the CPU.

    Every tensor of the model must be in the file, and no other.

    Raises:
        MalformedRun: The file is missing, cannot be read, is damaged, or holds the
            weights of another model.
    """
    with hashed_file(path, weights_limit(recipe, build)) as file:
        return filled_model(tensors_of(file), path, recipe, build)


def filled_model(
    tensors: dict[str, Tensor], path: Path, recipe: Recipe, build: Build | None = None
) -> nn.Module:
    """Return the model of a recipe with these weights, in eval mode, on the CPU.

    Raises:
        MalformedRun: They belong to another model.
    """
    # Of a model without numbers the tensors become the numbers: none are there twice.
    # A model of one's own may not know how, and fills its own.
    assign = build is None
    model = hollow_model(recipe, build)
    problem = load_tensors(model, tensors, assign=assign)
    if problem:
        raise MalformedRun(
            f"{path} holds the weights of another model: {problem}",
            hint="the model's name, its options and the classes of the recipe must be "
            "those that the weights were trained with",
        )
    return model.eval()


def write_model(path: Path, model: nn.Module) -> str:
    """Write the weights of a model as safetensors; return their SHA-256, in hex."""
    return write_tensors(path, model.state_dict())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, readable only by their owner; return the SHA-256.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    sha256 = hashlib.sha256()

    def fill(file: BinaryIO) -> None:
        for part in parts_of(contiguous(tensors)):
            file.write(part)
            sha256.update(part)

    atomic_fill(path, fill, mode=PRIVATE)
    return sha256.hexdigest()


def parts_of(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """A safetensors file of tensors, piece by piece: never the whole of it in memory.

    Shape:
        tensors  any, contiguous and on the CPU

    Source: the format's page, github.com/huggingface/safetensors.
    """
    # Widest first: so every tensor begins at a multiple of its own width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {}
    start = 0
    for name in names:
        value = tensors[name]
        end = start + value.numel() * value.element_size()
        header[name] = {
            "dtype": DTYPES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        if tensors[name].numel():
            flat = tensors[name].reshape(-1).view(torch.uint8)
            yield flat.numpy().data


def load_tensors(
    model: nn.Module, tensors: dict[str, Tensor], *, assign: bool = False
) -> str:
    """Load the tensors; return the first misfit in words, or an empty text.

    Args:
        model: Where they belong.
        tensors: By name.
        assign: The model takes the tensors themselves, in its own types, no copies.
    """
    for name, own in model.state_dict().items():
        if name in tensors and tensors[name].shape != own.shape:
            found, expected = tuple(tensors[name].shape), tuple(own.shape)
            return f"tensor {name} has shape {found}, expected {expected}"
    if assign:
        own_types = {name: own.dtype for name, own in model.state_dict().items()}
        tensors = {
            name: value.to(own_types.get(name, value.dtype))
            for name, value in tensors.items()
        }
    keys = model.load_state_dict(tensors, strict=False, assign=assign)
    if keys.missing_keys:
        return f"tensor {keys.missing_keys[0]} is missing"
    if keys.unexpected_keys:
        return f"there is an unexpected tensor {min(keys.unexpected_keys)!r:.100}"
    return ""


def contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors stores them: on the CPU, contiguous."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def weights_limit(recipe: Recipe, build: Build | None = None) -> int:
    """Return the most bytes that a recipe's weights file may have.

    With it, a file that claims to be huge is refused before any of it is read.
    """
    return HEADER_BYTES + WIDEST * size_of(hollow_model(recipe, build))


def size_of(model: nn.Module) -> int:
    """Return how many bytes the tensors of a model take."""
    tensors: dict[str, Tensor] = model.state_dict()
    return sum(value.numel() * value.element_size() for value in tensors.values())
