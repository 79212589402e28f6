"""Fold a block-wise affine map of images into the layer that reads them.

A layer whose windows are whole blocks computes W·z + b of the blocks z that it sees.
Given z' = A·z + c, it returns the same if W becomes W·A⁻¹ and b becomes b - W·A⁻¹·c,
for every image. A patch embedding (ViT, Swin, ConvNeXt) is such a layer if M divides
its patch. An ordinary convolution is rewritten as one, if its stride divides M: a
lifted stem.

Source: for patch embeddings and pixel shuffling, arXiv:2208.13135, arXiv:2207.05366.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlguard.errors import BindingError
from mlguard.models.architectures import WholePatches
from mlguard.models.binding.affine import AffineBlocks
from mlguard.models.binding.pieces import LiftedStem
from mlguard.models.binding.traced import trace
from mlguard.transforms import BLOCK_SIZES
from mlguard.transforms.blocks import CHANNELS

MAX_VALUES = 1 << 26  # of a lifted stem; 256 MiB
StemForm = Literal["patch", "lifted"]


@dataclass(frozen=True)
class Stem:
    """The layer that reads the images.

    Attributes:
        name: Its name in the model.
        layer: The layer.
    """

    name: str
    layer: nn.Conv2d | LiftedStem


def find_stem(model: nn.Module) -> Stem:
    """Find the one layer that reads the images.

    Raises:
        BindingError: There is none, or something else reads the images.
    """
    traced = trace(model)
    readers = traced.readers(traced.images())
    layers = [traced.module(reader) for reader in readers]
    if len(readers) == 1 and isinstance(layers[0], WholePatches):
        readers = traced.readers(readers[0])
        layers = [traced.module(reader) for reader in readers]
    if len(readers) == 1 and type(layers[0]) in (nn.Conv2d, LiftedStem):
        return Stem(str(readers[0].target), layers[0])  # type: ignore[arg-type]
    read_by = ", ".join(str(reader.target) for reader in readers) or "nothing"
    raise BindingError(
        "expected one convolution as the only reader of the images, but they are read "
        f"by {read_by}",
        hint="only the method `channels` can be folded into this model",
    )


def form_of_stem(model: nn.Module, block_size: int) -> StemForm:
    """Return the form that takes a map of such blocks: "patch" if possible, at no cost.

    Raises:
        BindingError: No form does.
    """
    stem = find_stem(model)
    if isinstance(stem.layer, LiftedStem):
        if stem.layer.block_size == block_size:
            return "lifted"
        raise BindingError(
            f"{stem.name} has blocks of {stem.layer.block_size} x "
            f"{stem.layer.block_size} pixels, not of {block_size} x {block_size}"
        )
    if not _unfit_patch(stem.layer, block_size):
        return "patch"
    problem = _unfit(stem.layer, block_size)
    if not problem:
        return "lifted"
    fitting = [size for size in BLOCK_SIZES if not _unfit(stem.layer, size)]
    raise BindingError(
        f"no transform of {block_size} x {block_size} blocks can be folded into "
        f"{stem.name}: {problem}",
        hint=f"block sizes that fit: {', '.join(map(str, fitting))}"
        if fitting
        else "only the method `channels` can be folded into this model",
    )


def side_of_patch(model: nn.Module) -> int:
    """Return the stride of the stem in pixels: a patch embedding's patch side.

    Raises:
        BindingError: The model has no stem.
    """
    layer = find_stem(model).layer
    return layer.block_size if isinstance(layer, LiftedStem) else _whole(layer.stride)


def prepare_stem(model: nn.Module, block_size: int) -> nn.Module:
    """Rewrite the stem into the form into which a map of blocks can be folded.

    A patch embedding only gets a bias if it has none. Any other convolution becomes a
    `LiftedStem`, unless it is one already. The model is changed in place and computes
    what it did.

    Args:
        model: The model.
        block_size: M, in pixels.

    Returns:
        The model.

    Raises:
        BindingError: The stem cannot take such a form.
    """
    form, stem = form_of_stem(model, block_size), find_stem(model)
    if isinstance(stem.layer, LiftedStem):
        return model
    if form == "lifted":
        model.set_submodule(stem.name, _lifted(stem.layer, block_size))
    elif stem.layer.bias is None:
        zeros = stem.layer.weight.detach().new_zeros(stem.layer.out_channels)
        stem.layer.bias = nn.Parameter(zeros)
    return model


@torch.no_grad()
def absorb(model: nn.Module, affine: AffineBlocks) -> nn.Module:
    """Make a model compute from mapped images what it computed from plain ones.

    It is changed in place; `absorb(model, affine.inverse())` undoes it.

    Args:
        model: A model whose stem `prepare_stem` prepared for the map's block size.
        affine: The map of normalized images (`AffineBlocks.normalized`).

    Returns:
        The model.

    Raises:
        BindingError: The stem is not prepared for this block size.
    """
    stem, size = find_stem(model), affine.block_size
    layer = _block_layer(stem.layer, size)
    if layer is None or layer.bias is None:
        raise BindingError(
            f"{stem.name} is not prepared for blocks of {size} x {size} pixels"
        )
    weight = _as_blocks(layer.weight, size) @ affine.inverse().matrix
    constant = torch.from_numpy(weight @ -affine.offset).to(layer.weight.device)
    layer.weight.copy_(_as_windows(weight, size))
    if isinstance(stem.layer, LiftedStem):
        stem.layer.constant.weight += constant.unsqueeze(1)
    else:
        layer.bias += constant.sum((1, 2))
    return model


def _block_layer(layer: nn.Conv2d | LiftedStem, size: int) -> nn.Conv2d | None:
    """Return the convolution whose windows are whole blocks, if there is one."""
    if isinstance(layer, LiftedStem):
        return layer.windows if layer.block_size == size else None
    return None if _unfit_patch(layer, size) else layer


def _as_blocks(weight: Tensor, size: int) -> NDArray[np.float64]:
    """Cut the windows of a convolution into blocks.

    Shape:
        weight   (O, 3, h·M, w·M)
        returns  (O, h, w, L), L in the order row, column, channel
    """
    values = weight.detach().double().cpu().numpy()
    outputs, channels, height, width = values.shape
    high, wide = height // size, width // size
    cut = values.reshape(outputs, channels, high, size, wide, size)
    return cut.transpose(0, 2, 4, 3, 5, 1).reshape(outputs, high, wide, -1)


def _as_windows(blocks: NDArray[np.float64], size: int) -> Tensor:
    """Undo `_as_blocks`."""
    outputs, high, wide, _ = blocks.shape
    cut = blocks.reshape(outputs, high, wide, size, size, CHANNELS)
    windows = cut.transpose(0, 5, 1, 3, 2, 4)
    return torch.from_numpy(
        windows.reshape(outputs, CHANNELS, high * size, wide * size)
    )


@torch.no_grad()
def _lifted(stem: nn.Conv2d, size: int) -> LiftedStem:
    """Rewrite a convolution as one over whole blocks."""
    kernel, stride, padding = _whole(stem.kernel_size), _whole(stem.stride), _pad(stem)
    ratio, channels = size // stride, stem.out_channels
    before = -(-padding // size)
    after = ((ratio - 1) * stride - padding + kernel - 1) // size
    lifted = LiftedStem(
        channels, block_size=size, ratio=ratio, before=before, after=after
    ).to(stem.weight)
    side = (before + 1 + after) * size
    weight = stem.weight.new_zeros(channels, ratio, ratio, CHANNELS, side, side)
    for row in range(ratio):
        for column in range(ratio):
            top, left = (p * stride - padding + before * size for p in (row, column))
            window = weight[:, row, column, :, top : top + kernel, left : left + kernel]
            window.copy_(stem.weight)
    lifted.windows.weight.copy_(weight.flatten(0, 2))
    bias = stem.weight.new_zeros(channels) if stem.bias is None else stem.bias
    if lifted.windows.bias is not None:
        lifted.windows.bias.copy_(bias.repeat_interleave(ratio**2))
    return lifted.train(stem.training)


def _unfit(layer: nn.Conv2d, size: int) -> str:
    """Return why no form of the stem takes blocks of this size; empty if one does."""
    return _unfit_patch(layer, size) and _unfit_lifted(layer, size)


def _unfit_patch(layer: nn.Conv2d, size: int) -> str:
    kernel = _whole(layer.kernel_size)
    if _odd(layer) or kernel != _whole(layer.stride) or _pad(layer):
        return _odd(layer) or "its windows overlap"
    return f"its patch of {kernel} is not a multiple of {size}" if kernel % size else ""


def _unfit_lifted(layer: nn.Conv2d, size: int) -> str:
    kernel, stride, padding = (
        _whole(layer.kernel_size),
        _whole(layer.stride),
        _pad(layer),
    )
    if _odd(layer):
        return _odd(layer)
    if size % stride:
        return f"its stride {stride} does not divide {size}"
    if not 2 * padding < kernel <= 2 * padding + stride:
        return f"padding {padding} leaves an output that is not 1/{stride} of the image"
    window = -(-padding // size) + 1 + (size - stride - padding + kernel - 1) // size
    values = (
        layer.out_channels * (size // stride) ** 2 * CHANNELS * (window * size) ** 2
    )
    if values > MAX_VALUES:
        return f"lifted, it would have {values:,} weights, the limit is {MAX_VALUES:,}"
    return ""


def _odd(layer: nn.Conv2d) -> str:
    """Return what is unusual about a convolution of images; empty if nothing is."""
    square = all(
        len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding)
    )
    if layer.groups != 1 or set(layer.dilation) != {1} or layer.padding_mode != "zeros":
        return "it is grouped, dilated or padded with other values than zeros"
    if layer.in_channels != CHANNELS or isinstance(layer.padding, str) or not square:
        return f"expected {CHANNELS} input channels and square windows with padding"
    return ""


def _whole(pair: tuple[int, ...]) -> int:
    return pair[0]


def _pad(layer: nn.Conv2d) -> int:
    return -1 if isinstance(layer.padding, str) else layer.padding[0]
