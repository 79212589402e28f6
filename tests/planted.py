"""Models whose key is planted, so that an attack must succeed, and worthless ones."""

import numpy as np
import torch
from torch import Tensor, nn

from mlguard import recipe
from mlguard.audit.attacks.base import Leaks, Pool, Scene, SplitReferee
from mlguard.audit.measure import Subject
from mlguard.models import Normalization
from mlguard.models.keyed_transform import TorchTransform
from mlguard.models.torch_blocks import cut, join
from mlguard.tasks import Segmentation
from mlguard.transforms import NegativePositive, PixelShuffle, Transform, TransformSet
from tests.audits import Pairs

TASK = Segmentation(classes=2)
CPU = torch.device("cpu")
SIZE = 16  # pixels
STEP = 60  # what class 1 adds to a value
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


def np_transform(block_size: int = 2, *, seed: int = 0) -> NegativePositive:
    length = 3 * block_size**2
    mask = np.zeros(length, dtype=np.bool_)
    mask[np.random.default_rng(seed).permutation(length)[: length // 2]] = True
    return NegativePositive(block_size, mask)


def shf_transform(block_size: int = 2, *, seed: int = 0) -> PixelShuffle:
    order = np.random.default_rng(seed).permutation(3 * block_size**2)
    return PixelShuffle(block_size, order)
