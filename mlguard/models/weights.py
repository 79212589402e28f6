"""Load initial weights: a safetensors file, or a torchvision weights enum.

It reads no pickle. Mean and standard deviation belong to the weights, so they are
decided here and not in the data room.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as torchvision_models

from mlguard import recipe
from mlguard.errors import WeightsError
from mlguard.models.positions import resampled

# torchvision's files of vision transformers keep names from before its version 0.14.
OLD_NAMES = {".mlp.linear_1.": ".mlp.0.", ".mlp.linear_2.": ".mlp.3."}
POSITIONS = "encoder.pos_embedding"
# Below these shares it is another architecture: of all tensors of the file, and of
# those in the parts that the model has; a deeper network has the same names, and more.
MIN_LOADED_SHARE = 0.5
MIN_LOADED_IN_PARTS = 0.9


@dataclass(frozen=True)
class Normalization:
    """The mean and std that normalize an image in [0, 1], per RGB channel."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize images.

        Shape:
            images   (N, 3, H, W) float32 in [0, 1]
            returns  (N, 3, H, W) float32
        """
        shape = (1, 3, 1, 1)
        mean = torch.tensor(self.mean, device=images.device).view(shape)
        std = torch.tensor(self.std, device=images.device).view(shape)
        return (images - mean) / std


def normalization_of(spec: recipe.Model) -> Normalization:
    """Return the recipe's mean and std, else those of its weights, else 0.5 and 0.5.

    Raises:
        WeightsError: torchvision does not know weights of that name, or they are for
            another task.
    """
    if spec.mean is not None and spec.std is not None:
        return Normalization(spec.mean, spec.std)
    if spec.weights == "none":
        return Normalization()
    preset = _torchvision_weights(spec.weights).transforms()
    try:
        mean, std = tuple(preset.mean), tuple(preset.std)
    except (AttributeError, TypeError):
        mean = std = ()
    if len(mean) != 3 or len(std) != 3:
        raise WeightsError(
            f"weights {spec.weights}: torchvision has no mean and std for them, so "
            "they are for another task",
            hint="choose weights of a classifier or segmentation model, such as "
            "ResNet50_Weights.IMAGENET1K_V2",
        )
    return Normalization(mean, std)


def load_weights(model: nn.Module, spec: recipe.Model) -> None:
    """Load the recipe's initial weights, if it names any, into the model.

    Raises:
        WeightsError: As in `fitting_weights`.
    """
    if spec.weights != "none":
        model.load_state_dict(fitting_weights(model, spec), strict=False)


def fitting_weights(model: nn.Module, spec: recipe.Model) -> dict[str, Tensor]:
    """Return the recipe's initial weights, by their names in the model.

    Tensors whose names or shapes the model lacks (such as a classifier for other
    classes) are left out.

    Raises:
        WeightsError: The file is missing or damaged, or too little of it fits.
    """
    tensors = read_weights(spec)
    own = model.state_dict()
    names = {name: _own_name(name, own) for name in tensors}
    renamed = {names[name]: value for name, value in tensors.items()}
    _fit_positions(renamed, own)
    fitting = {
        name: value.to(own[name].dtype)
        for name, value in renamed.items()
        if name in own and own[name].shape == value.shape
    }
    if not _is_alike({name: names[name] in fitting for name in names}):
        raise WeightsError(
            f"weights {spec.weights}: only {len(fitting)} of {len(tensors)} tensors "
            f"fit {spec.name}",
            hint="the weights must be of the same architecture as model.name",
        )
    return fitting


def _is_alike(fits: dict[str, bool]) -> bool:
    """Return whether weights are of a model's architecture, but for a head.

    Args:
        fits: Whether the model has a tensor of this name and shape.
    """
    shared = {_part(name) for name, one in fits.items() if one}
    inside = [one for name, one in fits.items() if _part(name) in shared]
    return sum(fits.values()) >= MIN_LOADED_SHARE * len(fits) and sum(
        inside
    ) >= MIN_LOADED_IN_PARTS * len(inside)


def _part(name: str) -> str:
    return name.partition(".")[0]


def read_weights(spec: recipe.Model) -> dict[str, Tensor]:
    """The recipe's starting weights as they are published, by their own names.

    Raises:
        WeightsError: The file is missing or damaged, or is not what was published.
    """
    if spec.weights.endswith(".safetensors"):
        return _read_safetensors(Path(spec.weights))
    return _download(spec.weights)


def _own_name(name: str, own: dict[str, Tensor]) -> str:
    """Return an encoder's parameter name, or its name inside a segmentation model."""
    for old, new in OLD_NAMES.items():
        name = name.replace(old, new)
    inside = f"backbone.{name.removeprefix('features.')}"
    return name if name in own or inside not in own else inside


def _fit_positions(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Resample position embeddings for another image size to the model's."""
    for name in tensors.keys() & own.keys():
        if name.endswith(POSITIONS) and tensors[name].shape != own[name].shape:
            side = math.isqrt(own[name].shape[1] - 1)
            tensors[name] = resampled(tensors[name], side, side)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise WeightsError(
            f"weights {path}: no such file",
            hint="give the file with --set model.weights=PATH.safetensors, or start "
            "from random weights with --set model.weights=none",
        ) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights {path}: {error}") from None


def _torchvision_weights(name: str) -> torchvision_models.WeightsEnum:
    try:
        return torchvision_models.get_weight(name)
    except (ValueError, AttributeError, KeyError):
        raise WeightsError(
            f"weights {name!r}: torchvision does not have weights of that name",
            hint='give "none", a .safetensors file, or a name such as '
            "ResNet50_Weights.IMAGENET1K_V2",
        ) from None


def _download(name: str) -> dict[str, Tensor]:
    weights = _torchvision_weights(name)
    try:
        return dict(weights.get_state_dict(check_hash=True, weights_only=True))
    # The last two: a damaged file that torch keeps from an earlier download.
    except (URLError, OSError, RuntimeError, UnpicklingError, EOFError) as error:
        cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise WeightsError(
            f"weights {name}: cannot be fetched from {weights.url} ({error})",
            hint=f"put the file at {cached}, or start from random weights with "
            "--set model.weights=none",
        ) from None
