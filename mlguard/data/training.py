"""Random crops and flips of a training set, in an order that can be resumed anywhere.

Every choice depends only on the seed and the position in the whole run. So it does not
matter which worker makes an image, in which order, or whether the run was killed and
resumed in between, and the global random state of torch is never touched.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from mlguard import recipe
from mlguard.data.draws import Draws
from mlguard.data.labelled import LabelledSet, Sample, resize, to_tensors

_CROP = 1  # labels that keep the two streams of one seed apart
_ORDER = 2
CROP_TRIES = 10  # as in torchvision; then the largest crop that fits

Box = tuple[int, int, int, int]  # left, top, right, bottom; pixels


class TrainingSet(torch.utils.data.Dataset[Sample]):
    """A labelled set seen through random resized crops and flips.

    Its index is the position in the whole run, epoch * len(base) + index, which
    `epoch_positions` lists in a shuffled order.

    Args:
        base: The images to crop, already of one size.
        spec: The recipe's [data]: crop_scale and crop_ratio, or pad, and flip.
        seed: The recipe's train.seed.
        views: How many crops of each image there are in the whole run; after so many
            epochs they come again. 0: no end of them.
    """

    def __init__(
        self, base: LabelledSet, spec: recipe.Data, seed: int, *, views: int = 0
    ) -> None:
        self.base = base
        self._spec = spec
        self._seed = seed
        self._views = views

    def __len__(self) -> int:
        """Return the number of images in one epoch."""
        return len(self.base)

    def __getitem__(self, position: int) -> Sample:
        """Return the crop at one position of the run.

        Shape:
            returns  (3, H, W) uint8 image, (H, W) uint8 mask or () int64 class
        """
        epoch, index = divmod(position, len(self.base))
        if self._views:
            position = epoch % self._views * len(self.base) + index
        image, mask = self.base.arrays(index)
        size = height, width = image.shape[:2]
        draws = Draws(_CROP, self._seed, position)
        if self._spec.pad:
            image = _shifted(draws, image, self._spec.pad)
        else:
            box = _crop(draws, height, width, self._spec)
            image, mask = resize(image, mask, size, box)
        if draws.unit() < self._spec.flip:
            image, mask = image[:, ::-1], mask[:, ::-1] if mask.ndim else mask
        return to_tensors(image, mask)


def epoch_positions(length: int, *, seed: int, epoch: int) -> list[int]:
    """Return the shuffled positions of one epoch: a sampler for a TrainingSet.

    Example:
        >>> sorted(epoch_positions(4, seed=0, epoch=2))
        [8, 9, 10, 11]
    """
    order = np.argsort(Draws(_ORDER, seed, epoch).words(length), kind="stable")
    return [epoch * length + index for index in order.tolist()]


def _shifted(draws: Draws, image: NDArray[np.uint8], pad: int) -> NDArray[np.uint8]:
    """Pad an image with black, and crop it at a random place to its own size."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    top, left = draws.between(0, 2 * pad), draws.between(0, 2 * pad)
    return padded[top : top + height, left : left + width]


def _crop(draws: Draws, height: int, width: int, spec: recipe.Data) -> Box:
    low, high = spec.crop_scale
    flat, wide = (math.log(ratio) for ratio in spec.crop_ratio)
    for _ in range(CROP_TRIES):
        area = height * width * (low + (high - low) * draws.unit())
        ratio = math.exp(flat + (wide - flat) * draws.unit())
        crop_height = round(math.sqrt(area / ratio))
        crop_width = round(math.sqrt(area * ratio))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top = draws.between(0, height - crop_height)
            left = draws.between(0, width - crop_width)
            return left, top, left + crop_width, top + crop_height
    return _largest(height, width, spec.crop_ratio)


def _largest(height: int, width: int, ratios: tuple[float, float]) -> Box:
    ratio = min(max(width / height, ratios[0]), ratios[1])
    crop_height = max(1, min(height, round(width / ratio)))
    crop_width = max(1, min(width, round(height * ratio)))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return left, top, left + crop_width, top + crop_height
