"""Whose copy has leaked? What a mark costs, and what it survives.

Two models: a run folder of a plain CamVid model, and torchvision's FCN-ResNet-50 of 33
million weights as it is initialized (its weights are random: what is measured on it is
the mark, not what the model can do). Every measurement is a piece; finished pieces
stand in the file and are not measured again, so the program can be stopped.

    python benchmarks/tracing.py RUN --data camvid --out docs/results/tracing.json
    python benchmarks/tracing.py RUN --data camvid --out … --model large
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import leaks
import numpy as np
import torch
import torchvision
from safetensors.numpy import load_file
from torch import Tensor, nn

from mlguard.data import LabelledSet, open_split
from mlguard.keys import ModelKey
from mlguard.marks import AMPLITUDE, embed, gather, markable
from mlguard.models import build_model, logits_of, normalization_of
from mlguard.recipe import Recipe, parse_recipe

SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))  # obviously no real key
CUSTOMERS, INNOCENT = range(20), range(1000, 1100)
AMPLITUDES = (0.003, 0.01, 0.03, 0.1)
STEPS = {"small": (100, 400, 1600), "large": (10, 40)}
COLLUDERS = (2, 5, 10, 20)
BATCH, RATE = 16, 1e-3
MANY = {"small": (10_000, 500), "large": (10_000, 250)}  # innocent codes, in a piece

Piece = Callable[[], dict[str, Any]]


class Bench:
    """One model, its data, and the file of what was measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        text = (options.run / "recipe.toml").read_text()
        self.recipe: Recipe = parse_recipe(text, name=str(options.run))
        spec = self.recipe.model
        self.public = spec
        self.size, self.large = options.model, options.model == "large"
        self.scored = not (self.large or options.no_miou)
        torch.manual_seed(0)
        if self.large:
            self.model = Large(self.recipe.data.classes)
            self.weights = arrays(self.model)
        else:
            blank = spec.model_copy(update={"weights": "none"})
            self.model = build_model(blank, self.recipe.data.classes)
            self.weights = load_file(options.run / "model.safetensors")
        self.normalization = normalization_of(spec)
        self.train, self.test = (
            images_of(open_split(self.recipe.data, options.data, split, seed=0))
            for split in ("train", "test")
        )
        self.task = open_split(self.recipe.data, options.data, "test", seed=0).task

    def copy_of(self, customer: int, amplitude: float = AMPLITUDE) -> leaks.Weights:
        return embed(self.weights, SUBKEYS, grant(customer), amplitude=amplitude)

    def load(self, weights: leaks.Weights) -> nn.Module:
        tensors = {n: torch.from_numpy(np.array(w)) for n, w in weights.items()}
        self.model.load_state_dict(tensors)
        return self.model.eval()

    def logits(self, images: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(one).reshape(3, 1, 1)
            for one in (self.normalization.mean, self.normalization.std)
        )
        return logits_of(self.model((images / 255 - mean) / std))

    @torch.inference_mode()
    def miou(self, weights: leaks.Weights) -> float | None:
        """Of the test images; nothing for weights that are random, or if unasked."""
        if not self.scored:
            return None
        self.load(weights)
        images, masks = self.test
        counts = [
            self.task.count(
                self.logits(images[i : i + BATCH]).argmax(1).byte().numpy(),
                masks[i : i + BATCH].numpy(),
            )
            for i in range(0, len(images), BATCH)
        ]
        return round(float(self.task.score_of(np.concatenate(counts))), 4)

    @torch.inference_mode()
    def moved(self, weights: leaks.Weights) -> float:
        """How far the logits of 16 images move, in their own standard deviation."""
        images = self.test[0][:BATCH]
        self.load(self.weights)
        before = self.logits(images)
        self.load(weights)
        return float((self.logits(images) - before).std() / before.std())

    def taught(self, weights: leaks.Weights, steps: int, seed: int) -> leaks.Weights:
        """Fine-tuned on all labelled training images, as an adversary would at best."""
        model = self.load(weights).train()
        torch.manual_seed(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        images, masks = self.train
        batch = 4 if self.large else BATCH
        for _ in range(steps):
            chosen = torch.randint(0, len(images), (batch,))
            loss = nn.functional.cross_entropy(
                self.logits(images[chosen]),
                masks[chosen].long(),
                ignore_index=self.recipe.data.ignore_index,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return arrays(model)

    def distilled(self, weights: leaks.Weights, steps: int) -> leaks.Weights:
        """A student of the copy's answers, that starts from public weights."""
        self.load(weights)
        images = self.train[0]
        with torch.inference_mode():
            answers = torch.cat([self.logits(part) for part in images.split(BATCH)])
        torch.manual_seed(1)
        model = build_model(self.public, self.recipe.data.classes)
        self.model, teacher = model.train(), self.model
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(steps):
            chosen = torch.randint(0, len(images), (BATCH,))
            loss = nn.functional.kl_div(
                self.logits(images[chosen]).log_softmax(1),
                answers[chosen].log_softmax(1),
                log_target=True,
                reduction="none",
            )
            optimizer.zero_grad()
            loss.sum(1).mean().backward()
            optimizer.step()
        self.model = teacher
        return arrays(model)


class Large(nn.Module):
    """FCN-ResNet-50 of torchvision, with a plain tensor as its output."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        whole = torchvision.models.segmentation.fcn_resnet50(
            weights=None, weights_backbone=None, num_classes=classes
        )
        self.backbone, self.classifier = whole.backbone, whole.classifier

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.backbone(images)["out"])
        return nn.functional.interpolate(scores, images.shape[2:], mode="bilinear")


def main() -> None:
    options = parse()
    done = json.loads(options.out.read_text()) if options.out.exists() else {}
    bench = Bench(options)
    for name, piece in pieces(bench):
        if name in done or not any(one in name for one in options.only.split(",")):
            continue
        began = perf_counter()
        done[name] = piece() | {"seconds": round(perf_counter() - began, 1)}
        print(name, json.dumps(done[name]), flush=True)
        options.out.write_text(json.dumps(done, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder of a plain CamVid model")
    parser.add_argument("--data", type=Path, help="the folder of its data")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON")
    parser.add_argument("--model", choices=("small", "large"), default="small")
    parser.add_argument("--only", default="", help="pieces with one of A,B in the name")
    parser.add_argument("--no-miou", action="store_true", help="z alone, much faster")
    return parser.parse_args()


def pieces(bench: Bench) -> Iterator[tuple[str, Piece]]:
    """Everything that is measured, by name."""
    found = {"the model": lambda: described(bench)}
    for amplitude in AMPLITUDES:
        found[f"amplitude {amplitude}"] = lambda a=amplitude: cost(bench, a)
    if not bench.large:
        for whole in (True, False):
            name = "tensor" if whole else "channel"
            found[f"depthwise too, by {name}"] = lambda w=whole: blunt(bench, whole=w)
    treatments: dict[str, Callable[[leaks.Weights], leaks.Weights]] = {
        "as it is": lambda w: w,
        "fp16": leaks.half,
        "int8": lambda w: leaks.rounded(w, 8),
        "int4": lambda w: leaks.rounded(w, 4),
        "pruned 30 %": lambda w: leaks.pruned(w, 0.3),
        "pruned 60 %": lambda w: leaks.pruned(w, 0.6),
        "noise 5 %": lambda w: leaks.noisy(w, 0.05, 0),
        "permuted and rescaled": lambda w: leaks.reordered(w, 0),
        "permuted and rescaled, int8": lambda w: leaks.rounded(
            leaks.reordered(w, 0), 8
        ),
    }
    for steps in STEPS[bench.size]:
        treatments[f"fine-tuned {steps} steps"] = lambda w, s=steps: bench.taught(
            w, s, 0
        )
    if not bench.large:
        treatments["distilled 400 steps"] = lambda w: bench.distilled(w, 400)
    for name, treat in treatments.items():
        found[f"leak: {name}"] = lambda t=treat: traced(bench, t(bench.copy_of(0)), {0})
    for number in COLLUDERS:
        for way in (leaks.mean, leaks.middle):
            found[f"collusion: {way.__name__} of {number}"] = lambda n=number, w=way: (
                collusion(bench, n, w)
            )
    codes, part = MANY[bench.size]
    for start in range(0, codes, part):
        found[f"innocent codes from {start}"] = lambda s=start: innocent(bench, s, part)
    return ((f"{bench.size}: {name}", piece) for name, piece in found.items())


def described(bench: Bench) -> dict[str, Any]:
    own = bench.weights.values()
    return {
        "weights": sum(one.size for one in own),
        "marked": sum(one.size for one in own if markable(one)),
        "miou": bench.miou(bench.weights),
        "test_images": len(bench.test[0]),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def cost(bench: Bench, amplitude: float) -> dict[str, Any]:
    """The mIoU of five customers' copies, and z of one."""
    copies = [bench.copy_of(one, amplitude) for one in range(5)]
    return {
        "miou": [bench.miou(one) for one in copies],
        "logits_moved": round(bench.moved(copies[0]), 5),
    } | {
        f"z_{name}": traced(bench, leak, {0})["z"]
        for name, leak in (
            ("as_it_is", copies[0]),
            ("int4", leaks.rounded(copies[0], 4)),
            ("noise_5", leaks.noisy(copies[0], 0.05, 0)),
        )
    }


def blunt(bench: Bench, *, whole: bool) -> dict[str, Any]:
    """The cost if depthwise filters were marked too, by tensors or by channels."""
    copies = []
    for seed in range(5):
        draw, copy = np.random.default_rng(seed), dict(bench.weights)
        for name, one in copy.items():
            if one.ndim == 4:
                axes = None if whole else (1, 2, 3)
                scale = AMPLITUDE * one.std(axis=axes, keepdims=True)
                change = scale * draw.standard_normal(one.shape)
                copy[name] = (one + change).astype(np.float32)
        copies.append(copy)
    return {
        "miou": [bench.miou(one) for one in copies],
        "logits_moved": round(bench.moved(copies[0]), 5),
    }


def traced(bench: Bench, leak: leaks.Weights, guilty: set[int]) -> dict[str, Any]:
    """The z of those whose copies went in (the least), and of a hundred innocents."""
    evidence = gather(leak, bench.weights)
    z = {one: evidence.z(SUBKEYS, grant(one)) for one in [*guilty, *INNOCENT]}
    return {
        "z": round(min(z[one] for one in guilty), 2),
        "innocent": round(max(z[one] for one in INNOCENT), 2),
        "alike": round(evidence.alike, 4),
        "compared": evidence.compared,
        "miou": bench.miou(leak),
    }


def collusion(
    bench: Bench, number: int, way: Callable[[list[leaks.Weights]], leaks.Weights]
) -> dict[str, Any]:
    copies = [bench.copy_of(one) for one in CUSTOMERS[:number]]
    return traced(bench, way(copies), set(CUSTOMERS[:number]))


def innocent(bench: Bench, start: int, number: int) -> dict[str, Any]:
    """The z of codes that nobody has, against a leak that is rounded and pruned."""
    leak = leaks.pruned(leaks.rounded(bench.copy_of(0), 8), 0.3)
    evidence = gather(leak, bench.weights)
    codes = range(10_000 + start, 10_000 + start + number)
    return {"z": [round(evidence.z(SUBKEYS, grant(one)), 3) for one in codes]}


def grant(customer: int) -> bytes:
    return customer.to_bytes(16, "big")


def arrays(model: nn.Module) -> leaks.Weights:
    return {n: one.detach().numpy().copy() for n, one in model.state_dict().items()}


def images_of(split: LabelledSet) -> tuple[Tensor, Tensor]:
    images, masks = zip(*(split[i] for i in range(len(split))), strict=True)
    return torch.stack(images), torch.stack(masks)


if __name__ == "__main__":
    main()
