"""Models whose key is planted, so that an attack must succeed, and worthless ones."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mlguard import recipe
from mlguard.audit.attacks.base import Leaks, Pool, Scene, SplitReferee
from mlguard.audit.target.subject import Subject
from mlguard.models import Normalization
from mlguard.models.conditions import TorchTransform, cut, join
from mlguard.tasks import Segmentation
from mlguard.transforms import (
    ChannelPermutation,
    NegativePositive,
    PixelShuffle,
    Transform,
    TransformSet,
)
from tests.audits import Pairs

TASK = Segmentation(classes=2)
CPU = torch.device("cpu")
SIZE = 16  # pixels
STEP = 60  # what class 1 adds to a value
CHANNELS = 8  # of the feature map of PlantedFeatures
MIXED = 64  # channels that the layer after it makes of them
MIDDLE = (0.5, 0.5, 0.5)  # mean and std of images
BASES = 190  # the spread of a block's own values


def planted_images(number: int, *, seed: int, block_size: int = 2) -> Pairs:
    """Each position of a block has its own brightness; class 1 adds to it."""
    draw = np.random.default_rng(seed)
    masks = torch.from_numpy(draw.integers(0, 2, (number, SIZE, SIZE)))
    blank = torch.zeros(number, 3, SIZE, SIZE)
    bases = bases_of(block_size).expand(cut(blank, block_size).shape)
    noise = torch.from_numpy(draw.integers(0, 5, blank.shape))
    images = join(bases, block_size, (SIZE, SIZE)) + STEP * masks[:, None] + noise
    return Pairs(images.to(torch.uint8), masks.to(torch.uint8), task=TASK)


def bases_of(block_size: int) -> Tensor:
    """A value for every position; neighbours are far apart. Shape: (L,)."""
    length = 3 * block_size**2
    order = torch.tensor([(5 * index) % length for index in range(length)])
    return order * (BASES / (length - 1))


class Planted(nn.Module):
    """Undoes the key on every block, then knows the answer; carries its statistics."""

    def __init__(self, transform: NegativePositive | PixelShuffle) -> None:
        super().__init__()
        self.block_size = transform.block_size
        length = transform.length
        # Pixels are normalized to [-1, 1], where inverting is a change of sign.
        if isinstance(transform, PixelShuffle):
            matrix = torch.eye(length)[np.argsort(transform.order)]
        else:
            matrix = torch.diag(torch.from_numpy(1.0 - 2.0 * transform.mask)).float()
        self.matrix = nn.Parameter(matrix)
        self.norm = nn.BatchNorm2d(length, affine=False)
        middle = (bases_of(self.block_size) + STEP / 2 + 2) / 127.5 - 1
        self.register_buffer("middle", middle)

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        blocks = cut(pixels, self.block_size) @ self.matrix.T
        rows = height // self.block_size
        self.norm(blocks.unflatten(1, (rows, -1)).permute(0, 3, 1, 2))
        score = join(blocks - self.middle, self.block_size, (height, width)).mean(1)
        return 50 * torch.stack([-score, score], dim=1)


class Noise(nn.Module):
    """Weights of uniform noise: there is nothing to steal."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 5, padding=2), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
            )
            for parameter in self.layers.parameters():
                nn.init.uniform_(parameter, -1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels)


def planted(transform: NegativePositive | PixelShuffle) -> Planted:
    """A model with a planted key, its statistics learned from keyed images."""
    model = Planted(transform)
    images = planted_images(32, seed=1, block_size=transform.block_size).images
    keyed = Normalization()(TorchTransform(transform)(images))
    with torch.no_grad():
        model.norm.momentum = None  # the plain average
        model.train()(keyed)
    return model.eval()


def colour_images(number: int, *, seed: int) -> Pairs:
    """Every pixel has a colour of its own; class 1 is redder than green."""
    draw = np.random.default_rng(seed)
    images = torch.from_numpy(draw.integers(0, 256, (number, 3, SIZE, SIZE)))
    masks = images[:, 0] > images[:, 1]
    return Pairs(images.to(torch.uint8), masks.to(torch.uint8), task=TASK)


class PlantedFeatures(nn.Module):
    """Two layers: what the first gives is permuted, and the second expects it so."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(6)
            self.expand = nn.Conv2d(3, CHANNELS, 1)
            nn.init.constant_(self.expand.bias, 0.5)
            self.relu = nn.ReLU()
            self.mix = nn.Conv2d(CHANNELS, MIXED, 1)
            self.norm = nn.BatchNorm2d(MIXED, affine=False, momentum=None)
            self.head = nn.Conv2d(MIXED, 2, 1)

    def mixed(self, pixels: Tensor) -> Tensor:
        return self.norm(self.mix(self.relu(self.expand(pixels))))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.mixed(pixels))


def plain_features() -> PlantedFeatures:
    """Knows the answer where nothing is permuted."""
    model = PlantedFeatures()
    data = colour_images(32, seed=1)
    pixels = Normalization()(data.images.float() / 255)
    with torch.no_grad():
        model.train().mixed(pixels)
        mixed = model.eval().mixed(pixels).movedim(1, -1).flatten(0, 2)
        known = torch.cat([mixed, torch.ones(len(mixed), 1)], 1).double()
        answer = (2.0 * data.masks.flatten() - 1).double()
        ridge = known.T @ known + 0.01 * len(known) * torch.eye(MIXED + 1)
        solved = torch.linalg.solve(ridge, known.T @ answer).float()
        both = torch.stack([-solved, solved]) * 5
        model.head.weight.copy_(both[:, :-1, None, None])
        model.head.bias.copy_(both[:, -1])
    return model


def planted_features(
    channels: ChannelPermutation, *, drift: float = 0.0
) -> PlantedFeatures:
    """The same, with a permutation folded in and its weights drifted by a share."""
    model = plain_features()
    with torch.no_grad():
        weight = model.mix.weight
        weight.copy_(weight[:, channels.order.copy()])
        if channels.signs is not None:
            weight.mul_(torch.from_numpy(channels.signs.copy()).view(1, -1, 1, 1))
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(weight.shape, generator=generator)
        weight.add_(drift * weight.std() * noise)
    return model.eval()


def channel_permutation(*, signs: bool = False, seed: int = 0) -> ChannelPermutation:
    draw = np.random.default_rng(seed)
    flipped = draw.choice([-1, 1], CHANNELS).astype(np.float32) if signs else None
    return ChannelPermutation("relu", draw.permutation(CHANNELS), flipped)


def scene_of_features(model: nn.Module, channels: ChannelPermutation) -> Scene:
    """As `scene_of`, for a permutation of the output of `relu`."""
    scene = scene_of(model, np_transform(1), "np")
    signed = channels.signs is not None
    spec = recipe.Transform(method="channels", layers=("relu",), signs=signed)
    own = colour_images(32, seed=2)
    return dataclasses.replace(
        scene,
        spec=spec,
        leaks=Leaks(TransformSet(None, (channels,))),
        pool=Pool(own.images, own.masks, TASK.ignore_index),
        referee=SplitReferee(scene.stolen, colour_images(8, seed=3), 8),
    )


def scene_of(model: nn.Module, transform: Transform, *methods: str) -> Scene:
    """An adversary with 32 images of its own, scored on 8 others."""
    size = transform.block_size
    subject = Subject(model.eval(), Normalization(), CPU)
    own = planted_images(32, seed=2, block_size=size)
    return Scene(
        stolen=subject,
        spec=recipe.Transform(method=methods, block_size=size),
        model=recipe.Model(name="fcn_small"),
        task=TASK,
        pool=Pool(own.images, own.masks, TASK.ignore_index),
        leaks=Leaks(TransformSet(transform)),
        referee=SplitReferee(subject, planted_images(8, seed=3, block_size=size), 8),
    )


def with_ancestor(scene: Scene, path: Path, weights: dict[str, Tensor], build) -> Scene:
    """The same, where a file holds public weights."""
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    spec = recipe.Model(name="fcn_small", weights=str(path), mean=MIDDLE, std=MIDDLE)
    return dataclasses.replace(scene, model=spec, build=build)


def np_transform(block_size: int = 2, *, seed: int = 0) -> NegativePositive:
    length = 3 * block_size**2
    mask = np.zeros(length, dtype=np.bool_)
    mask[np.random.default_rng(seed).permutation(length)[: length // 2]] = True
    return NegativePositive(block_size, mask)


def shf_transform(block_size: int = 2, *, seed: int = 0) -> PixelShuffle:
    order = np.random.default_rng(seed).permutation(3 * block_size**2)
    return PixelShuffle(block_size, order)
