"""Images of one split with their masks or classes, as tensors of one size.

A source provides them: `files.py` and `class_folders.py` decode files, `cifar10.py`
reads records, `shapes.py` generates scenes. Here they are resized, kept in memory if
the recipe says so, and all checked before a long run starts.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mlguard import recipe
from mlguard.data.coverage import Counts, check_labelled, missing_classes
from mlguard.data.values import count_values
from mlguard.errors import DatasetError
from mlguard.rules import BYTE_MAX
from mlguard.tasks import Classes, task_of

Sample = tuple[torch.Tensor, torch.Tensor]
Arrays = tuple[NDArray[np.uint8], Classes]
Progress = Callable[[int, int], None]  # images done, images in all

MAX_THREADS = 16  # decoders in `check`; more would only wait for the disk
MAX_NAMED = 5  # refused images named in one message


@dataclass(frozen=True)
class Pair:
    """One image and its mask, at their original size.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, checked: a class or ignore_index everywhere. For a
            classification, () int64: the class of the image.
        digest: SHA-256 of the files that the pair was made from.
        turned: Whether EXIF turned the image but not the mask.
    """

    image: NDArray[np.uint8]
    mask: Classes
    digest: bytes
    turned: bool = False


class _Outcome(NamedTuple):
    """The result of checking a pair."""

    digest: bytes
    counts: Counts | None  # pixels of each value of a mask
    turned: bool


class Source(Protocol):
    """A source of the pairs of a split."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The name of every pair, in order."""

    @property
    def ignored(self) -> str:
        """Which files beside the pairs are not read, in words; empty if none."""

    def read(self, index: int) -> Pair:
        """Read or make one pair; raises DatasetError naming the file at fault."""


class LabelledSet(torch.utils.data.Dataset[Sample]):
    """The images of one split with masks or classes, resized to the recipe's size.

    Attributes:
        ids: The name of every image, in order.
        task: How answers for these images are counted and scored.
        notes: Notes for the user, once `check` has run.
    """

    def __init__(
        self, source: Source, spec: recipe.Data, *, training: bool = False
    ) -> None:
        self.ids = source.ids
        self.task = task_of(
            spec.task, classes=spec.classes, ignore_index=spec.ignore_index
        )
        self.notes: tuple[str, ...] = ()
        self._source, self._spec, self._training = source, spec, training
        self._size = spec.size
        self._cache = _Cache(len(self.ids), spec) if spec.cache else None
        self._fingerprint = ""
        self._digests: dict[int, bytes] = {}  # of the checked images

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one image and its mask.

        Shape:
            returns  (3, H, W) uint8 RGB image, (H, W) uint8 mask or () int64 class
        Raises:
            DatasetError: The image or the mask is damaged, or they do not match.
        """
        return to_tensors(*self.arrays(index))

    def arrays(self, index: int) -> Arrays:
        """Return one image and its mask as they lie in memory; do not write to them.

        Shape:
            returns  (H, W, 3) uint8 RGB image, (H, W) uint8 mask or () int64 class

        Raises:
            DatasetError: The image or the mask is damaged, they do not match, or they
                were changed after the check.
        """
        if not 0 <= index < len(self.ids):
            raise IndexError(f"image {index} of {len(self.ids)}")
        if self._cache and self._cache.filled[index]:
            return self._cache.images[index], np.asarray(self._cache.masks[index])
        pair = self._source.read(index)
        if self._digests.get(index, pair.digest) != pair.digest:
            raise DatasetError(
                f"{self.ids[index]} was changed after it was checked",
                hint="do not change the images before the command is done",
            )
        return self._resize(index, pair)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over the ids and contents of the files, in order.

        Raises:
            DatasetError: As in `check`, which runs first if it has not run yet.
        """
        if not self._fingerprint:
            self.check()
        return self._fingerprint

    def check(self, progress: Progress | None = None) -> None:
        """Decode every image and mask once, before a long run depends on them.

        It fills the cache, if the recipe wants one, and sets `fingerprint`.

        Raises:
            DatasetError: A file is missing or damaged, or a mask has another size than
                its image, or a value that is neither a class nor ignore_index; the
                message names the first file at fault, and how many more there are. Or
                no pixel of any mask has a class, or in a training split only one class
                has any.
        """
        refusals: dict[str, DatasetError] = {}
        counted = _Counted()
        total = hashlib.sha256(b"mlguard/data/v1")
        for index, outcome in enumerate(self._outcomes()):
            if isinstance(outcome, DatasetError):
                refusals[self.ids[index]] = outcome
            else:
                name = os.fsencode(self.ids[index])  # need not be UTF-8
                total.update(len(name).to_bytes(4, "little") + name + outcome.digest)
                counted.add(self.ids[index], outcome, self.task.ignore_index)
            if progress:
                progress(index + 1, len(self.ids))
        if refusals:
            raise _together(refusals, len(self.ids))
        self.notes = tuple(filter(None, [self._source.ignored, *self._seen(counted)]))
        self._fingerprint = total.hexdigest()

    def _seen(self, counted: "_Counted") -> Iterator[str]:
        """Refuse data that cannot be learned from, and note probable mistakes."""
        if self._spec.task == "segmentation":
            masks = len(self.ids)
            check_labelled(counted.values, self._spec, masks=masks)
            if self._training:
                yield missing_classes(counted.values, self._spec, masks=masks)
        yield from counted.notes(len(self.ids))

    def _outcomes(self) -> Iterator[_Outcome | DatasetError]:
        threads = min(MAX_THREADS, os.cpu_count() or 1)
        with (
            ThreadPoolExecutor(threads, "check") as pool,
            # Closing cancels what has not started, so Ctrl-C does not wait for it.
            closing(pool.map(self._outcome, range(len(self.ids)))) as outcomes,  # type: ignore[type-var]
        ):
            yield from outcomes

    def _outcome(self, index: int) -> _Outcome | DatasetError:
        try:
            pair = self._source.read(index)
        except DatasetError as refusal:
            return refusal
        self._digests[index] = pair.digest
        if self._cache:
            self._resize(index, pair)
        counts = count_values(pair.mask) if pair.mask.ndim else None
        return _Outcome(pair.digest, counts, pair.turned)

    def _resize(self, index: int, pair: Pair) -> Arrays:
        image, mask = resize(pair.image, pair.mask, self._size)
        if self._cache:
            self._cache.images[index] = image
            self._cache.masks[index] = mask
            self._cache.filled[index] = True
        return image, mask


@dataclass
class _Counted:
    """The contents of all masks of a split, and the unusual ones."""

    values: Counts = field(default_factory=lambda: np.zeros(BYTE_MAX + 1, np.int64))
    blank: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)

    def add(self, name: str, outcome: _Outcome, ignore_index: int) -> None:
        """Count one pair."""
        if outcome.turned:
            self.turned.append(name)
        if outcome.counts is not None:
            self.values += outcome.counts
            if outcome.counts[ignore_index] == outcome.counts.sum():
                self.blank.append(name)

    def notes(self, total: int) -> Iterator[str]:
        """Return notes on what is unusual."""
        if self.blank:
            yield (
                f"{len(self.blank)} of {total} masks are ignored in every pixel, "
                f"first the mask of {self.blank[0]}"
            )
        if self.turned:
            yield (
                f"{len(self.turned)} of {total} images are turned upright as their "
                f"camera says (EXIF), first {self.turned[0]}; their masks have no "
                "orientation, so they must have been drawn on the upright image"
            )


class Part(torch.utils.data.Dataset[Sample]):
    """A part of a split's images, in their order.

    Attributes:
        task: As in the split.
    """

    def __init__(self, whole: LabelledSet, indices: range) -> None:
        self.task = whole.task
        self._whole, self._indices = whole, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        """Return one image and its mask. Shape and refusals as in the split."""
        return self._whole[self._indices[index]]


class _Cache:
    """Memory for every image of a split; the system commits it as it is filled."""

    def __init__(self, length: int, spec: recipe.Data) -> None:
        size = spec.size
        one_class = spec.task == "classification"
        try:
            self.images = np.empty((length, *size, 3), dtype=np.uint8)
            self.masks: Classes = (
                np.empty(length, dtype=np.int64)
                if one_class
                else np.empty((length, *size), dtype=np.uint8)
            )
        except (MemoryError, ValueError):  # ValueError: more than can be addressed
            bytes_a_pixel = 3 if one_class else 4
            needed = length * bytes_a_pixel * size[0] * size[1] >> 20
            raise DatasetError(
                f"there is not enough memory to keep {length} images of {size[0]} x "
                f"{size[1]}: "
                f"{needed} MiB needed",
                hint="read them from the disk every time with `--set data.cache=false`",
            ) from None
        self.filled = np.zeros(length, dtype=np.bool_)


def resize(
    image: NDArray[np.uint8],
    mask: Classes,
    size: tuple[int, int],
    box: tuple[int, int, int, int] | None = None,
) -> Arrays:
    """Resize a part of an image, bilinear with antialiasing, and of its mask, nearest.

    The class of a classification's image stays unchanged.

    Pillow does it rather than torch: on one thread whatever torch's setting, so the
        result does not depend on it, and a busy machine does not stall on waiting
        threads.

    Args:
        image: (H, W, 3) RGB.
        mask: (H, W), or ().
        size: Height and width of the result.
        box: Left, top, right and bottom of the part; the whole if not given.
    """
    whole = (0, 0, image.shape[1], image.shape[0])
    if image.shape[:2] == size and box in (None, whole):
        return image, mask
    target = (size[1], size[0])
    scaled = Image.fromarray(image).resize(target, Image.Resampling.BILINEAR, box)
    if mask.ndim:
        labels = Image.fromarray(mask).resize(target, Image.Resampling.NEAREST, box)
        mask = np.asarray(labels)
    return np.asarray(scaled), mask


def to_tensors(image: NDArray[np.uint8], mask: Classes) -> Sample:
    """Copy an image (H, W, 3) and its mask or class to tensors, channels first."""
    channels_first = image.transpose(2, 0, 1).copy()
    return torch.from_numpy(channels_first), torch.from_numpy(mask.copy())


def _together(refusals: dict[str, DatasetError], total: int) -> DatasetError:
    first, *others = refusals
    refusal = refusals[first]
    if not others:
        return refusal
    named = ", ".join(others[:MAX_NAMED])
    more = ", …" if len(others) > MAX_NAMED else ""
    return DatasetError(
        f"{refusal}; {len(others)} more of {total} images are refused: {named}{more}",
        hint=refusal.hint,
    )
