"""Keyed feature maps for an object detector: SSD-Lite on boxes from masks.

Trains a plain SSD-Lite, and one under the key's permutation of a feature map, as
arXiv:2202.00265 and arXiv:2209.14831 do; folds permutations into the plain one; scores
each with the correct key, without a key and with incorrect keys; reads the order off
with the public weights; and exports a keyed detector as a bundle. What is finished
stands in the file and is not measured again; a stopped training goes on from its last
epoch.

    python benchmarks/detector.py work --data voc --weights mobilenet_v2.safetensors \
        --out docs/results/detector.json
    python benchmarks/detector.py work --data voc --out … --table

Needs pycocotools (the extra `interop`).
"""

import argparse
import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from average_precision import mean_average_precision
from boxes import LEAST, Boxes
from cells import Cells
from detector_data import Sample, read_samples, views_for_training
from detector_model import (
    Target,
    Views,
    detect,
    new_detector,
    views_of,
)
from detector_train import Permutations, finished, train
from scipy.optimize import linear_sum_assignment
from torchvision.models.detection.ssd import SSD

from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.models import readers
from mlguard.protect import (
    Answer,
    Pixels,
    bind,
    channel_permutations,
    fold_permutations,
    permuted,
)
from mlguard.runtime import Session
from mlguard.transforms import ChannelPermutation

BLOCKS = "backbone.features."
ONE, LATER = (f"{BLOCKS}{n}" for n in (13, 17))
ALL = (ONE, f"{BLOCKS}16", LATER)
TRAINED = {"trained, map 13": (ONE,), "trained, three maps": ALL}
BOUND = {"bound, map 13": (ONE,), "bound, map 17": (LATER,), "bound, three maps": ALL}
PLAIN = "plain"
SHOWN = 20  # images whose boxes are compared with a bundle's
FIELDS = ("boxes", "labels", "scores")  # torchvision's names
PIXEL, SCORE = 0.05, 1e-3  # what rounding may differ by


def main() -> None:
    options = parse()
    cells = Cells(options.out)
    if options.table:
        print(table(cells.found))
        return
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    cells.fill(pieces(bench), only=options.only)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path, help="folder for trainings and views")
    parser.add_argument("--data", type=Path, help="images and masks by folder")
    parser.add_argument("--weights", type=Path, help="public ones, of MobileNetV2")
    parser.add_argument("--train", default="train_aug", help="the list to train on")
    parser.add_argument("--test", default="val", help="the list to score on")
    parser.add_argument("--images", type=int, default=800, help="to train on")
    parser.add_argument("--test-images", type=int, default=250)
    parser.add_argument("--classes", type=int, default=21, help="with the background")
    parser.add_argument("--ignore-index", type=int, default=255)
    parser.add_argument("--side", type=int, default=160, help="of images, pixels")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--keys", type=int, default=5, help="incorrect ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cells whose name has this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="the file of cells")
    parser.add_argument("--table", action="store_true", help="print what was measured")
    return parser.parse_args()


def pieces(bench: "Bench") -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every cell, by name, and what measures it; what one wants first is first."""
    yield "data", bench.facts
    yield PLAIN, bench.plain
    for name in ("bound, map 13", "bound, three maps"):  # seconds, and no training
        yield name, lambda layers=BOUND[name]: bench.bound(layers)
    for name, layers in list(TRAINED.items())[:1]:
        yield name, lambda layers=layers: bench.trained(layers)
    yield "bound, map 17", lambda: bench.bound(BOUND["bound, map 17"])
    yield "bundle", bench.bundle
    for name, layers in list(TRAINED.items())[1:]:
        yield name, lambda layers=layers: bench.trained(layers)


class Bench:
    """The detectors of one setting, and how they are scored."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        options.work.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, Any] = {}

    def facts(self) -> dict[str, Any]:
        """What is trained and scored on, and by which versions."""
        options, (learned, scored) = self.options, self.samples()
        packages = ("torch", "torchvision", "pycocotools", "mlguard-toolkit")
        return {
            "training_images": len(learned),
            "training_boxes": sum(len(one.boxes.labels) for one in learned),
            "test_images": len(scored),
            "test_boxes": sum(len(one.boxes.labels) for one in scored),
            "least_side_of_a_box": LEAST,
            "side": options.side,
            "epochs": options.epochs,
            "seed": options.seed,
            "versions": {name: version(name) for name in packages},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }

    def plain(self) -> dict[str, Any]:
        """The baseline; and one whole-image box a class, for every image."""
        scored = self.samples()[1]
        every = np.concatenate([one.boxes.labels for one in scored])
        labels = np.unique(every)
        shares = np.array([(every == label).mean() for label in labels])
        height, width = scored[0].image.shape[-2:]
        whole = np.tile(np.float32([0, 0, width, height]), (len(labels), 1))
        constant = [Boxes(whole, labels, shares.astype(np.float32))] * len(scored)
        return {
            "correct": self.score(self.model(())),
            "constant": mean_average_precision([s.boxes for s in scored], constant),
        }

    def trained(self, layers: tuple[str, ...]) -> dict[str, Any]:
        """Trained under the key, as the papers do."""
        return self.conditions(self.model(layers), layers)

    def bound(self, layers: tuple[str, ...]) -> dict[str, Any]:
        """The plain detector with the permutations folded in."""
        model = fold_permutations(self.model(()), self.permutations(layers))
        return self.conditions(model, layers) | {"public": self.public(model, layers)}

    def conditions(self, model: SSD, layers: tuple[str, ...]) -> dict[str, Any]:
        incorrect = [
            self.score(model, self.permutations(layers, _subkeys(f"incorrect {n}")))
            for n in range(self.options.keys)
        ]
        return {
            "layers": list(layers),
            "correct": self.score(model, self.permutations(layers)),
            "no_key": self.score(model),
            "incorrect": incorrect,
        }

    def public(self, model: SSD, layers: tuple[str, ...]) -> dict[str, Any]:
        """What one gets who pairs the columns with the public weights'."""
        public = new_detector(
            self.options.classes, self.options.side, self.options.weights, seed=1
        )
        read = [paired(model, public, layer) for layer in layers]
        true = self.permutations(layers)
        same = [np.mean(a.order == b.order) for a, b in zip(read, true, strict=True)]
        return {
            "channels_right": [round(float(one), 4) for one in same],
            "score": self.score(model, tuple(read)),
        }

    def bundle(self) -> dict[str, Any]:
        """A keyed detector as a sealed bundle: the same boxes with the key."""
        model = fold_permutations(self.model(()), self.permutations(ALL))
        images = [one.image for one in self.samples()[1][:SHOWN]]
        path, key = self.options.work / "detector.mlgb", _key("owner")
        path.unlink(missing_ok=True)
        names = tuple(str(n) for n in range(self.options.classes))
        with permuted(model, self.permutations(ALL)):
            done = bind(
                model,
                key,
                path,
                example=images[0].unsqueeze(0) / 255,
                pixels=Pixels((0.0,) * 3, (1.0,) * 3),
                answer=Answer("detection", names),
            )
            with torch.inference_mode():
                expected = [model([one / 255])[0] for one in images]
        session = Session.open(path, key)
        got = [session.run({"images": one.unsqueeze(0).numpy()}) for one in images]
        pairs = list(zip(expected, got, strict=True))
        return {
            "images": len(images),
            "boxes": sum(len(one["labels"]) for one in expected),
            "boxes_of_bundle": sum(len(one["labels"]) for one in got),
            "same_boxes": sum(same_boxes(a, b) for a, b in pairs),
            "task": session.task.name if session.task else None,
            "share_sealed": done.share,
            "size_bytes": done.size_bytes,
        }

    def model(self, layers: tuple[str, ...]) -> SSD:
        """A detector trained under the key's permutations; plain without layers."""
        options = self.options
        model = new_detector(
            options.classes, options.side, options.weights, options.seed
        )
        name = "-".join(one.removeprefix(BLOCKS) for one in layers) or PLAIN
        kept = options.work / f"{name}.pt"
        train(
            model,
            self.views() if not finished(kept, options.epochs) else None,
            self.permutations(layers),
            epochs=options.epochs,
            seed=options.seed,
            kept=kept,
        )
        return model.eval()

    def permutations(
        self, layers: tuple[str, ...], subkeys: ModelSubkeys | None = None
    ) -> Permutations:
        if not layers:
            return ()
        model = new_detector(self.options.classes, self.options.side, None, seed=0)
        subkeys = subkeys or _subkeys("owner")
        size = (self.options.side, self.options.side)
        return channel_permutations(model, layers, subkeys, size=size)

    def score(self, model: SSD, permutations: Permutations = ()) -> dict[str, float]:
        with permuted(model, permutations):
            found = detect(model, self.test_views())
        scored = self.samples()[1]
        scale = scored[0].image.shape[-1] / self.options.side
        return mean_average_precision(
            [one.boxes for one in scored], [_boxes(one, scale) for one in found]
        )

    def samples(self) -> tuple[list[Sample], list[Sample]]:
        def read() -> tuple[list[Sample], list[Sample]]:
            options = self.options
            return (
                read_samples(options.data, options.train, options.images, options),
                read_samples(options.data, options.test, options.test_images, options),
            )

        return self._once("samples", read)

    def views(self) -> Views:
        """The views of the training images; kept, for they take a while."""
        kept = self.options.work / "views.pt"

        def read() -> Views:
            if not kept.exists():
                learned = self.samples()[0]
                views = views_for_training(self._public(), learned, self.options.seed)
                torch.save(tuple(views), kept)
            return Views(*torch.load(kept, weights_only=True))

        return self._once("views", read)

    def test_views(self) -> Views:
        def run() -> Views:
            scored = self.samples()[1]
            targets = [one.target() for one in scored]
            return views_of(self._public(), [one.image for one in scored], targets)

        return self._once("test", run)

    def _public(self) -> SSD:
        options = self.options
        return new_detector(options.classes, options.side, options.weights, 0)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def paired(model: SSD, public: SSD, layer: str) -> ChannelPermutation:
    """The order that makes a layer's readers most like the public weights'.

    Column i of a reader belongs to channel order[i] of the public one.
    """
    likeness = 0.0
    for name in readers(model, layer):
        own, theirs = (
            torch.nn.functional.normalize(
                one.get_submodule(name).weight.detach().transpose(0, 1).flatten(1)
            )
            for one in (model, public)
        )
        likeness = likeness + (own @ theirs.T).numpy()
    _, order = linear_sum_assignment(likeness, maximize=True)
    return ChannelPermutation(layer, order)


def table(found: dict[str, Any]) -> str:
    """What was measured, in Markdown."""
    lines = [
        "| detector | correct key | no key | incorrect keys: mean | best |",
        "|---|---|---|---|---|",
    ]
    plain = found[PLAIN]["correct"]
    lines.append(f"| plain | {_pair(plain)} | | | |")
    for name in (*TRAINED, *BOUND):
        if name in found:
            cell = found[name]
            tried = [_pair(cell[kind]) for kind in ("correct", "no_key")]
            lines.append(f"| {name} | {' | '.join([*tried, *_mean(cell)])} |")
    lines += ["", "| bound | channels paired right | mAP@50, mAP |", "|---|---|---|"]
    for name in BOUND:
        if name in found:
            read = found[name]["public"]
            right = ", ".join(f"{one:.0%}" for one in read["channels_right"])
            lines.append(f"| {name} | {right} | {_pair(read['score'])} |")
    return "\n".join(lines)


def _pair(score: dict[str, float]) -> str:
    return f"{score['map50']:.3f}, {score['map']:.3f}"


def _mean(cell: dict[str, Any]) -> tuple[str, str]:
    tried = cell["incorrect"]
    mean = {name: float(np.mean([one[name] for one in tried])) for name in tried[0]}
    best = {name: max(one[name] for one in tried) for name in tried[0]}
    return _pair(mean), _pair(best)


def _key(name: str) -> ModelKey:
    text = f"mlguard: detector, {name}; protects nothing"
    return ModelKey(hashlib.sha256(text.encode()).digest())


def _subkeys(name: str) -> ModelSubkeys:
    return _key(name).for_model(bytes(range(16)))


def _boxes(found: Target, scale: float) -> Boxes:
    corners, labels, scores = (found[n] for n in FIELDS)
    return Boxes(corners.numpy() * scale, labels.numpy(), scores.numpy())


def same_boxes(expected: Target, got: dict[str, Any]) -> int:
    """How many boxes stand in both, of one label and but for rounding.

    The order may differ where two scores are equal but for rounding.
    """
    same = 0
    for corners, label, score in zip(
        *(expected[n].numpy() for n in FIELDS), strict=True
    ):
        apart = np.abs(got["boxes"] - corners).max(axis=1, initial=0.0)
        close = (apart < PIXEL) & (np.abs(got["scores"] - score) < SCORE)
        same += bool((close & (got["labels"] == label)).any())
    return same


if __name__ == "__main__":
    main()
