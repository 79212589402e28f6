"""Are images delivered faster than a training step consumes them?

Measured in one run, on one machine: images per second from a `folder` of photograph-
sized JPEGs through decoding, resizing, cropping and flipping, with the cache and
without, in the main process and in workers; beside a forward and backward pass of
MobileNetV2 at the same size. A ratio above 1 means that the data keeps up.

    python benchmarks/data.py                      # on the CPU, about a minute
    python benchmarks/data.py --device cuda --batch 64
    python benchmarks/data.py --data DIR --classes 21    # your own folder
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.models import mobilenet_v2

from mlguard.data import SHAPES_CLASS_NAMES, TrainingSet, epoch_positions, open_split
from mlguard.data.draws import Draws
from mlguard.data.shapes import paint
from mlguard.recipe import Data

HEIGHT, WIDTH = 375, 500  # pixels; the usual photograph of VOC 2012
IMAGES = 160
SETTINGS = [(cache, workers) for cache in (False, True) for workers in (0, 2)]


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as made:
        root = options.data or write_photographs(Path(made))
        consumed = step_speed(options)
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
        print(f"{options.size} x {options.size} pixels, batches of {options.batch}")
        print(f"MobileNetV2 step on {options.device}: {consumed:.0f} images/s")
        for cache, workers in SETTINGS:
            delivered = data_speed(root, options, cache=cache, workers=workers)
            print(
                f"cache {'on ' if cache else 'off'}  workers {workers}:"
                f" {delivered:7.0f} images/s  ratio {delivered / consumed:6.1f}"
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder with train.txt")
    parser.add_argument("--classes", type=int, default=len(SHAPES_CLASS_NAMES))
    parser.add_argument("--ignore-index", type=int, default=255)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def write_photographs(root: Path) -> Path:
    """Scenes of a photograph's size as JPEG and index PNG, in the `folder` layout."""
    for part in ("images", "masks"):
        (root / part).mkdir()
    for number in range(IMAGES):
        image, mask = paint(Draws(number), HEIGHT, WIDTH)
        Image.fromarray(image).save(root / "images" / f"{number}.jpg", quality=90)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    (root / "train.txt").write_text("\n".join(map(str, range(IMAGES))))
    return root


def data_speed(
    root: Path, options: argparse.Namespace, *, cache: bool, workers: int
) -> float:
    """Images per second over a whole epoch, workers already started."""
    spec = Data(
        kind="folder",
        class_names=tuple(f"class {label}" for label in range(options.classes)),
        ignore_index=options.ignore_index,
        size=(options.size, options.size),
        cache=cache,
    )
    base = open_split(spec, root, "train", seed=0)
    if cache:
        base.check()
    length = len(base)
    positions = epoch_positions(length, seed=0, epoch=0)
    loader = DataLoader(
        TrainingSet(base, spec, seed=0),
        batch_size=options.batch,
        sampler=positions,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    for _ in loader:  # starts the workers and warms the file system
        pass
    start = time.perf_counter()
    delivered = sum(len(images) for images, _ in loader)
    return delivered / (time.perf_counter() - start)


def step_speed(options: argparse.Namespace, steps: int = 6) -> float:
    """Images per second that a training step of MobileNetV2 consumes."""
    model = mobilenet_v2().features.to(options.device).train()
    shape = (options.batch, 3, options.size, options.size)
    images = torch.randint(256, shape, dtype=torch.uint8)

    def step() -> None:
        model.zero_grad()
        model(images.to(options.device).float() / 255).mean().backward()

    step()
    synchronize(options.device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize(options.device)
    return steps * options.batch / (time.perf_counter() - start)


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
