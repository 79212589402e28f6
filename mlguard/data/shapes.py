"""The `shapes` data: small generated scenes, so that a demo needs no download.

A scene has sky above, grass below, clutter between, and orange, plum and tiger
ellipses. To tell the classes apart takes what a photograph takes and a key destroys:
orange and plum differ only in colour, orange and tiger only in texture, sky and grass
also in place, because the clutter has patches in the colours of both. All are about
equally bright, so that brightness, which survives most transforms, does not tell them
apart.

Integer arithmetic on our own generator (`draws.py`) makes the same pictures on every
machine and in every release. A test pins their digest.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlguard import recipe
from mlguard.data.draws import Draws
from mlguard.data.labelled import Pair
from mlguard.errors import DatasetError

SHAPES_CLASS_NAMES = ("background", "sky", "grass", "orange", "plum", "tiger")
BACKGROUND, SKY, GRASS, ORANGE, PLUM, TIGER = range(6)
MIN_SIDE = 16  # pixels; below this an ellipse is a dot

_STREAMS = {"train": 1, "validation": 2, "test": 3}
_LABEL = 0x5348415045530001  # "SHAPES", version 1: new pictures need a new number
# Red, green, blue, about 380 in all: see the module's docstring.
_COLOURS = {
    SKY: (85, 130, 190),
    GRASS: (115, 175, 75),
    ORANGE: (215, 115, 40),
    PLUM: (140, 70, 170),
    TIGER: (235, 130, 45),
}

CLUTTER = 10  # patches behind everything
DECOYS = 4  # patches in the colours of sky and grass
TEXTURE = 20  # amplitude of smooth noise; of 255
STRIPE = 36  # half the difference between the bars of a tiger; of 255
GRAIN_SHIFT = 4  # grain is -8 … 7 of 255

Field = NDArray[np.int32]
Where = NDArray[np.bool_]


def shapes_ids(
    spec: recipe.Data, split: Literal["train", "validation", "test"]
) -> tuple[str, ...]:
    """Return the ids of a split, as many as `shapes_images` says.

    Raises:
        DatasetError: The recipe names another number of classes, or a size too small.
    """
    if spec.classes != len(SHAPES_CLASS_NAMES):
        raise DatasetError(
            f"shapes have {len(SHAPES_CLASS_NAMES)} classes, "
            f"the recipe names {spec.classes}",
            hint=f"data.class_names = {list(SHAPES_CLASS_NAMES)}",
        )
    if min(spec.size) < MIN_SIDE:
        raise DatasetError(
            f"shapes need at least {MIN_SIDE} x {MIN_SIDE} pixels, "
            f"the recipe's size is {spec.size[0]} x {spec.size[1]}",
            hint="raise data.size",
        )
    count = dict(zip(_STREAMS, spec.shapes_images, strict=True))[split]
    return tuple(f"{split}-{index:05d}" for index in range(count))


class ShapesSource:
    """A source that generates its pairs."""

    def __init__(self, ids: tuple[str, ...], spec: recipe.Data) -> None:
        self.ids = ids
        self.ignored = ""
        self._size = spec.size

    def read(self, index: int) -> Pair:
        """Generate one pair; it depends only on its id and the recipe's size."""
        split, number = self.ids[index].split("-")
        draws = Draws(_LABEL, _STREAMS[split], int(number))
        image, mask = paint(draws, *self._size)
        content = image.tobytes() + mask.tobytes()
        return Pair(image, mask, hashlib.sha256(content).digest())


def paint(
    draws: Draws, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paint one scene and its mask.

    Shape:
        returns  (H, W, 3) uint8 RGB image, (H, W) uint8 mask
    """
    canvas = _Canvas(draws, height, width)
    canvas.clutter()
    canvas.regions()
    for _ in range(draws.between(3, 5)):
        canvas.object(draws.between(ORANGE, TIGER))
    return canvas.finish()


class _Canvas:
    """One scene while it is painted. Lengths are given in 1/64 of the shorter side."""

    def __init__(self, draws: Draws, height: int, width: int) -> None:
        self._draws = draws
        self._height, self._width = height, width
        # 64 bits, or the squares of a large image's ellipses would overflow.
        self._rows = np.arange(height, dtype=np.int64)[:, None]
        self._columns = np.arange(width, dtype=np.int64)[None, :]
        self._channels = np.zeros((3, height, width), dtype=np.int32)
        self._mask = np.zeros((height, width), dtype=np.uint8)
        self._coarse = self._noise(12)
        self._fine = self._noise(3)

    def clutter(self) -> None:
        """Fill the scene with patches that belong to no class."""
        everywhere = np.ones(self._mask.shape, dtype=np.bool_)
        self._fill(everywhere, self._muted(), self._coarse)
        for number in range(CLUTTER):
            where = self._ellipse(6, 13) if number % 3 else self._rectangle(8, 20)
            texture = self._stripes() if number % 4 == 1 else self._coarse
            self._fill(where, self._decoy(number), texture)

    def regions(self) -> None:
        """Lay sky over the top and grass over the bottom, with uneven borders."""
        if self._draws.between(0, 9):
            self._lay(SKY, self._rows < self._border(10, 24), self._coarse)
        if self._draws.between(0, 9):
            below = self._height - 1 - self._rows < self._border(10, 24)
            self._lay(GRASS, below, self._fine)

    def object(self, label: int) -> None:
        """Put an ellipse somewhere; only its surface shows its class."""
        where = self._ellipse(6, 13)
        self._lay(label, where, self._stripes() if label == TIGER else self._coarse)

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Light the scene unevenly, add the grain of a sensor, and round."""
        light = self._draws.between(200, 285)  # of 256
        slope = self._draws.between(-40, 40)
        gain = light + slope * (2 * self._columns - self._width) // self._width
        words = self._draws.words(self._mask.size).astype("<u8").view(np.uint8)
        grain = words.reshape(*self._mask.shape, 8)[..., :3].astype(np.int32) - 128
        lit = (self._channels * gain >> 8).transpose(1, 2, 0) + (grain >> GRAIN_SHIFT)
        return np.clip(lit, 0, 255).astype(np.uint8), self._mask

    def _lay(self, label: int, where: Where, texture: Field) -> None:
        colour = [c + self._draws.between(-12, 12) for c in _COLOURS[label]]
        self._fill(where, colour, texture)
        self._mask[where] = label

    def _fill(self, where: Where, colour: Sequence[int], texture: Field) -> None:
        surface = texture[where]
        for channel, value in zip(self._channels, colour, strict=True):
            channel[where] = surface + value

    def _muted(self) -> list[int]:
        grey = self._draws.between(95, 155)
        return [grey + self._draws.between(-22, 22) for _ in range(3)]

    def _decoy(self, number: int) -> Sequence[int]:
        """Return a muted colour, for the first patches that of sky or grass."""
        return _COLOURS[(SKY, GRASS)[number % 2]] if number < DECOYS else self._muted()

    def _scaled(self, low: int, high: int) -> int:
        side = min(self._height, self._width)
        return max(1, self._draws.between(low * side, high * side) // 64)

    def _centre(self) -> tuple[int, int]:
        row = self._draws.between(0, self._height - 1)
        return row, self._draws.between(0, self._width - 1)

    def _ellipse(self, low: int, high: int) -> Where:
        row, column = self._centre()
        tall, wide = self._scaled(low, high), self._scaled(low, high)
        down = (self._rows - row) * wide
        right = (self._columns - column) * tall
        return down * down + right * right < (tall * wide) ** 2

    def _rectangle(self, low: int, high: int) -> Where:
        row, column = self._centre()
        tall, wide = self._scaled(low, high), self._scaled(low, high)
        inside = abs(self._rows - row) * 2 < tall
        return inside & (abs(self._columns - column) * 2 < wide)

    def _border(self, low: int, high: int) -> Field:
        """Return a region's height at each column: straight pieces between posts."""
        posts = [self._scaled(low, high) for _ in range(5)]
        reach, columns = -(-self._width // 4), self._columns
        left = np.take(posts, columns // reach)
        right = np.take(posts, columns // reach + 1)
        border: Field = left + (right - left) * (columns % reach) // reach
        return border

    def _stripes(self) -> Field:
        """Return bars at one of four slants, as wide as a large block."""
        down, right = ((1, 0), (0, 1), (1, 1), (1, -1))[self._draws.between(0, 3)]
        period = self._scaled(4, 5)
        bars = (self._rows * down + self._columns * right) // period & 1
        return np.where(bars, STRIPE, -STRIPE).astype(np.int32)

    def _noise(self, cell: int) -> Field:
        """Return smooth noise in -TEXTURE … TEXTURE: a bilinear random lattice."""
        step = max(1, cell * min(self._height, self._width) // 64)
        rows, columns = self._height // step + 2, self._width // step + 2
        words = self._draws.words(rows * columns).reshape(rows, columns)
        lattice = (words >> np.uint64(40)).astype(np.int32) % (2 * TEXTURE + 1)
        across = _between(lattice - TEXTURE, self._columns[0], step)
        return _between(across.T, self._rows[:, 0], step).T


def _between(lattice: Field, places: NDArray[np.int64], step: int) -> Field:
    """Interpolate the last axis of a lattice at integer places."""
    cell, rest = places // step, places % step
    return (lattice[:, cell] * (step - rest) + lattice[:, cell + 1] * rest) // step
