"""Tiny classification data sets, so that no test needs a download."""

from pathlib import Path

import numpy as np
from PIL import Image

from mlguard.data.cifar10 import FILES, FOLDER, RECORD_BYTES, RECORDS

CLASSES = ("blue", "green", "red")  # as folders are sorted


def class_image(number: int, *, seed: int, size: tuple[int, int] = (16, 20)):
    """Noise in which one channel is bright: blue, green or red."""
    noise = np.random.default_rng(seed).integers(0, 90, (*size, 3))
    noise[..., 2 - number] += 120
    return Image.fromarray(noise.astype(np.uint8))


def write_class_folders(
    root: Path, *, train: int = 8, test: int = 4, classes: tuple[str, ...] = CLASSES
) -> Path:
    """The `imagefolder` layout with so many images of each class."""
    for split, count in {"train": train, "test": test}.items():
        for number, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                seed = 1000 * (split == "test") + 100 * number + index
                image = class_image(number % 3, seed=seed)
                image.save(folder / f"{index}.png")
    return root


def cifar_records(seed: int) -> bytes:
    """The content of one file of CIFAR-10's binary version: every class.

    A few images are noise and the rest black, so that a test packs them in no time.
    """
    draw = np.random.default_rng(seed)
    records = np.zeros((RECORDS, RECORD_BYTES), dtype=np.uint8)
    noisy = [*range(20), RECORDS - 1]
    records[noisy] = draw.integers(0, 256, (len(noisy), RECORD_BYTES), dtype=np.uint8)
    records[:, 0] = np.arange(RECORDS) % 10
    return records.tobytes()


def write_cifar10(root: Path) -> Path:
    """The `cifar10` layout, complete."""
    (root / FOLDER).mkdir(parents=True)
    for seed, name in enumerate((*FILES["train"], *FILES["test"])):
        (root / FOLDER / name).write_bytes(cifar_records(seed))
    return root
