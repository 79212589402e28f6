"""How fast are keys scored and judged, and by which engine?

Measured in one run, on one machine, with untrained weights, for time does not depend on
them.

- Scored: the same images under the same keys, by torch and by onnxruntime in turns.
- Judged, as searches do: the share of the time that the model itself takes.

    python benchmarks/audit.py                          # on the CPU, some minutes
    python benchmarks/audit.py --device cuda --batch 64 # there only torch scores
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mlguard import recipe
from mlguard.audit.attacks import GuessSpace, Judge, Leaks, Pool, Scene
from mlguard.audit.measure import Tried
from mlguard.audit.target import Subject
from mlguard.data.draws import Draws
from mlguard.keys import ModelKey
from mlguard.models import Normalization, build_model
from mlguard.protect.evaluate import evaluate
from mlguard.tasks import Segmentation
from mlguard.transforms import TransformSet, derive_transform

CLASSES = 11
METHODS = (("shf", 4), ("np", 4), ("np", 2))
SCORED = (("fcn_small", 64, 16), ("fcn_mobilenet_v2", 256, 4))
KEYS, ROUNDS = 8, 6


def main() -> None:
    options = parse()
    device = torch.device(options.device)
    spec = recipe.Model(name=options.model)
    model = build_model(spec, CLASSES).eval().to(device)
    model = model.to(memory_format=torch.channels_last)
    subject = Subject(model, Normalization(), device)
    shape = (options.batch, 3, options.size, options.size)
    images = torch.randint(256, shape, dtype=torch.uint8).to(device)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if device.type == "cpu":
        for name, size, batch in SCORED:
            print(engines(name, size, batch))
    print(f"{options.model}, {options.batch} images of {options.size} x {options.size}")
    for method, size in METHODS:
        print(f"{method}, M = {size}: {share(subject, images, method, size):.1%}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="fcn_mobilenet_v2")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def engines(name: str, size: int, batch: int) -> str:
    """The time that torch takes to score, over that of onnxruntime."""
    model = build_model(recipe.Model(name=name), CLASSES).eval()
    torch_only = Subject(model, Normalization(), torch.device("cpu"))
    spec = recipe.Transform(method="shf", block_size=4)
    export_s, in_graph = timed(
        lambda: torch_only.in_graph(spec, (size, size)), torch_only.device
    )
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(
        256, (batch, 3, size, size), generator=draw, dtype=torch.uint8
    )
    masks = torch.randint(CLASSES, (batch, size, size), generator=draw)
    task = Segmentation(CLASSES)
    dataset = _Made(images, masks.to(torch.uint8), task)
    keys = (ModelKey(bytes([index] * 32)) for index in range(KEYS))
    tried = [
        TransformSet(derive_transform(("shf",), key.for_model(bytes(16)), 4))
        for key in keys
    ]
    seconds: dict[str, list[float]] = {"torch": [], "onnxruntime": []}
    scores: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for subject in (torch_only, in_graph):
            spent, counts = timed(
                lambda subject=subject: evaluate(
                    subject.model,
                    dataset,
                    Tried(tried, subject.device),
                    normalization=subject.normalization,
                    device=subject.device,
                    batch=batch,
                    run=subject.run,
                ),
                subject.device,
            )
            seconds[subject.engine].append(spent)
            scores[subject.engine] = [task.score_of(one) for one in counts.values()]
    one, other = (min(seconds[engine]) for engine in ("torch", "onnxruntime"))
    apart = max(abs(a - b) for a, b in zip(*scores.values(), strict=True))
    return (
        f"{name}, {batch} images of {size} x {size}: torch / onnxruntime "
        f"{one / other:.2f}, scores apart by at most {apart:.1e}, the export takes as "
        f"long as {export_s / (one / KEYS / batch):,.0f} predictions of torch"
    )


@dataclass(frozen=True)
class _Made:
    """Images and masks made at random."""

    images: torch.Tensor
    masks: torch.Tensor
    task: Segmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[index], self.masks[index]


def share(subject: Subject, images: torch.Tensor, method: str, size: int) -> float:
    """The model's part of the time in which a search judges keys."""
    spec = recipe.Transform(method=method, block_size=size)
    space = GuessSpace.of(spec, None)
    masks = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.uint8)
    pool = Pool(images.cpu(), masks, 255)
    scene = Scene(
        stolen=subject,
        spec=spec,
        model=recipe.Model(name="fcn_small"),
        task=Segmentation(CLASSES),
        pool=pool,
        leaks=Leaks(TransformSet()),
        referee=lambda model, condition: np.zeros(0),
    )
    judge = Judge(scene, space, pool, ("cross-entropy",))
    guesses = np.stack([space.draw(Draws(8, index)) for index in range(16)])
    clock = _Clock(subject.model, subject.device)
    judge(guesses[:1])
    clock.seconds = 0.0
    whole, _ = timed(lambda: judge(guesses), subject.device)
    clock.stop()
    return clock.seconds / whole


class _Clock:
    """Adds up the time that a model runs."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.seconds, self._device = 0.0, device
        gpu = device.type == "cuda"
        self._now = time.perf_counter if gpu else time.process_time
        self._hooks = [
            model.register_forward_pre_hook(self._begin),
            model.register_forward_hook(self._end),
        ]

    def _begin(self, *_: object) -> None:
        synchronize(self._device)
        self._since = self._now()

    def _end(self, *_: object) -> None:
        synchronize(self._device)
        self.seconds += self._now() - self._since

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds, and what came of it; on a CPU those that this process computed."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    synchronize(device)
    since = clock()
    result = work()
    synchronize(device)
    return clock() - since, result


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
