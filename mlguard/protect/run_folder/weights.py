"""The weights of a run, in and out of a safetensors file."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mlguard.errors import MalformedRun
from mlguard.files import atomic_write
from mlguard.protect.key_work import Build, blank_model
from mlguard.recipe import Recipe


def read_model(path: Path, recipe: Recipe, build: Build | None = None) -> nn.Module:
    """Read the weights of a recipe's model, in eval mode, on the CPU.

    Every tensor of the model must be in the file, and no other.

    Raises:
        MalformedRun: The file is missing, cannot be read, is damaged, or holds the
            weights of another model.
    """
    model = blank_model(recipe, build)
    tensors = _read_tensors(path)
    problem = load_tensors(model, tensors)
    if problem:
        raise MalformedRun(
            f"{path} holds the weights of another model: {problem}",
            hint="the model's name, its options and the classes of the recipe must be "
            "those that the weights were trained with",
        )
    return model.eval()


def write_model(path: Path, model: nn.Module) -> None:
    """Write the weights of a model as safetensors."""
    atomic_write(path, save(contiguous(model.state_dict())))


def load_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> str:
    """Load the tensors; what is wrong with the first that does not fit, else empty."""
    for name, own in model.state_dict().items():
        if name in tensors and tensors[name].shape != own.shape:
            found, expected = tuple(tensors[name].shape), tuple(own.shape)
            return f"tensor {name} has shape {found}, expected {expected}"
    keys = model.load_state_dict(tensors, strict=False)
    if keys.missing_keys:
        return f"tensor {keys.missing_keys[0]} is missing"
    if keys.unexpected_keys:
        return f"there is a tensor {keys.unexpected_keys[0]!r:.100} too many"
    return ""


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors stores them: on the CPU, in the plain memory layout."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise MalformedRun(f"{path}: no such file") from None
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, ValueError) as error:
        raise MalformedRun(
            f"{path} is damaged, or no safetensors file: {error}"
        ) from None
