"""Tar archives of small images and masks, as WebDataset writes them."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(values: np.ndarray) -> bytes:
    """The bytes of a PNG of these values."""
    made = io.BytesIO()
    Image.fromarray(values).save(made, "png")
    return made.getvalue()


def pair(number: int, side: int = 16) -> dict[str, bytes]:
    """The members of one id: an image and its mask."""
    draw = np.random.default_rng(number)
    image = draw.integers(256, size=(side, side, 3), dtype=np.uint8)
    mask = (image[..., 0] > 127).astype(np.uint8)
    return {f"{number:04}.png": png(image), f"{number:04}.mask.png": png(mask)}


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    """Write an archive."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_splits(root: Path, *, side: int = 16) -> None:
    """Write a data set: 12 images to train on in two archives, 4 and 4 others."""
    root.mkdir(exist_ok=True)
    splits = {
        "train-000000": range(7),
        "train-000001": range(7, 12),
        "val-000000": range(20, 24),
        "test": range(30, 34),
    }
    for name, numbers in splits.items():
        members: dict[str, bytes] = {}
        for number in numbers:
            members |= pair(number, side)
        write_shard(root / f"{name}.tar", members)
