"""What a model in two halves keeps of the accuracy, and what is left to a thief.

Trains, for each seed, the whole model (backbone and all) and split ones whose clients
do about 5, 10, 20 and 30 % of the multiply-adds; then plays the thief of the host:
public weights, the host's memory, the images of all its traffic, and some labels.
Finished cells stand in the file and are not measured again, so the program can be
stopped and started; a training that was stopped goes on from its last checkpoint.

    python benchmarks/split.py work --data camvid --weights mobilenet_v2.safetensors \
        --size 128 --seed 0 --out docs/results/split.json
    python benchmarks/split.py work --data camvid --weights … --table
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import Cells
from split_thief import CONTROLS, RATES, Thief, spread
from torch import Tensor, nn

from mlguard.audit.findings import image_draws
from mlguard.bundle import FileOwner, bundle2_bytes
from mlguard.bundle.backbone import IMAGES
from mlguard.data import LabelledSet, open_split
from mlguard.keys import ModelKey
from mlguard.models import NO_KEY, normalization_of
from mlguard.models.split import Backbone, Sliced, share_of
from mlguard.protect import DataFolder, Job, Run
from mlguard.protect.evaluate import evaluate
from mlguard.protect.export import cut, example_images, private_model
from mlguard.recipe import Recipe, read_recipe
from mlguard.runtime.providers import load_graph
from mlguard.tasks import Counts
from mlguard.transforms import ChannelPermutation

KEY = ModelKey(hashlib.sha256(b"mlguard: split; protects nothing").digest())
CPU = torch.device("cpu")
INPUT = "pixels"  # of the private half
SHARES = {  # of the multiply-adds at the client, in %: widths of its slices, and side
    "5": ([12, 20, 32, 64], 6),
    "10": ([20, 32, 64, 96], 8),
    "20": ([28, 48, 112, 176], 16),
    "30": ([40, 72, 144, 224], 24),
}
WHOLE = "whole"
ROUNDS = 201  # of timing; the halves run in turns
LABELS = (1, 4, 16, 64, 101)  # the thief's, of the validation images
PRIVATE = {  # beside the owner's trained backbone
    "private backbone": "slices",
    "private backbone, unlabelled": "unlabelled",
}
WAYS = (*RATES, *PRIVATE)
BATCH = 16


def main() -> None:
    options = parse()
    cells = Cells(options.out)
    if options.table:
        print(table(cells, options))
        return
    torch.set_num_threads(options.threads)
    cells.fill(pieces(options), only=options.only)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path, help="folder for runs and counts")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="public ones")
    parser.add_argument("--recipe", default="camvid_split")
    parser.add_argument("--size", type=int, default=128, help="of images, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--labels", type=int, nargs="*", default=LABELS)
    parser.add_argument("--only", default="", help="cells whose name has this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="the file of cells")
    parser.add_argument("--table", action="store_true", help="print what was measured")
    return parser.parse_args()


def pieces(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Every cell, by name, and what measures it."""
    where = f"{options.recipe}/{options.size}/seed {options.seed}"
    for share in ("20", "10", "5", "30", WHOLE):
        bench = Bench(options, share)
        yield f"{where}/accuracy/{share}", bench.accuracy
    for share in SHARES:
        bench = Bench(options, share)
        yield f"{options.recipe}/{options.size}/costs/{share}", bench.costs
    bench = Bench(options, "20")
    for labels in options.labels:
        for way in WAYS:
            name = f"{where}/thief/{labels}/{way}"
            yield name, lambda labels=labels, way=way: bench.thief(labels, way)


class Permuted(nn.Module):
    """A backbone whose maps leave it in the key's order of channels."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone, self.maps = backbone, backbone.maps
        subkeys = KEY.for_model(bytes(16))
        self.orders = [
            torch.from_numpy(
                ChannelPermutation.derive(subkeys, one.name, one.channels).order.copy()
            )
            for one in self.maps
        ]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        found = self.backbone(pixels)
        return [one[:, order] for one, order in zip(found, self.orders, strict=True)]


class Bench:
    """One model at one share of the multiply-adds."""

    def __init__(self, options: argparse.Namespace, share: str) -> None:
        self.options, self.share = options, share
        self.recipe = recipe_of(options, share)
        self.folder = options.work / f"{options.recipe}-{options.size}-{options.seed}"

    def accuracy(self) -> dict[str, Any]:
        """Train it, as its owner does, and score it with its key."""
        run = self.trained()
        opened = run.unlocked(KEY) if run.protection else run
        model = opened.load_model()
        counts = self.score(model)
        self.keep(f"accuracy-{self.share}", counts)
        test = self.split("test")
        share = share_of(model, self.recipe.data.size)
        return {
            "score": test.task.score_of(counts),
            "floor": float(test.task.floor(test.task.total(counts))),
            "client": share.client,
            "host": share.host,
            "share": share.of_client,
            "private_parameters": size_of(model.private),
            "epochs": self.recipe.train.epochs,
            "views": self.recipe.train.views,
            "training_seconds": seconds_of(run),
        }

    def costs(self) -> dict[str, Any]:
        """Time of each half for an image, and bytes; weights decide neither."""
        run = Run(self.folder / self.share, self.recipe, None, {})
        model = self.public_model().eval()
        halves = cut(run, model)
        height, width = self.recipe.data.size
        image = example_images((1, 3, height, width), 0)
        pixels = normalization_of(self.recipe.model)(torch.from_numpy(image) / 255)
        sessions = [
            load_graph(content, name=name, threads=1)
            for name, content in (
                ("host", halves.backbone),
                ("client", halves.private.SerializeToString()),
            )
        ]
        names = [one.name for one in halves.facts.maps]
        maps = dict(zip(names, sessions[0].run(names, {IMAGES: image}), strict=True))
        feeds = [{IMAGES: image}, {INPUT: pixels.numpy(), **maps}]
        rounds = [
            [timed(one, given) for one, given in zip(sessions, feeds, strict=True)]
            for _ in range(ROUNDS)
        ]
        least = np.min(np.array(rounds[1:]), axis=0) * 1e3  # others use the machine too
        bundle = private_model(run, halves, name="private")
        owner = FileOwner.of(KEY.for_model(bytes(16)))
        return {
            "host_ms": round(least[0], 2),
            "client_ms": round(least[1], 2),
            "sent_bytes": image.nbytes,
            "received_bytes": sum(one.nbytes for one in maps.values()),
            "bundle_bytes": len(bundle2_bytes(bundle, owner, name="private")),
            "backbone_bytes": len(halves.backbone),
            "share": share_of(model, (height, width)).of_client,
        }

    def trained(self) -> Run:
        data = DataFolder(self.options.data)
        path = self.folder / self.share
        job = Job(path, self.recipe, data, recipe_name=self.options.recipe, resume=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.share == WHOLE:
            return job.train_baseline()
        return job.protect(KEY, key_name="benchmark")

    def thief(self, labels: int, way: str) -> dict[str, Any]:
        """The best that a thief gets in one way, over his learning rates."""
        host = self.private_host if way in PRIVATE else None
        thief, name = Thief(self.recipe, self.options.data, host), way
        way = PRIVATE.get(way, way)
        pool = spread(self.split("validation"), labels)
        tried = [self.score(thief.train(way, pool, rate)) for rate in RATES[way]]
        task = self.split("test").task
        best = max(tried, key=task.score_of)
        self.keep(f"thief-{labels}-{name}", best)
        return {"score": task.score_of(best), "tried": [*map(task.score_of, tried)]}

    def private_host(self) -> Sliced:
        """A host whose backbone was trained, and whose maps are permuted by the key.

        What `split` refuses to export: the whole model's backbone, with slices that
        know nothing.
        """
        whole = Bench(self.options, WHOLE).trained().load_model()
        assert isinstance(whole, Sliced)
        host = whole.of_host(seed=1000 + self.options.seed)
        host.backbone = Permuted(host.backbone).requires_grad_(False)
        return host.train(host.training)

    def public_model(self) -> Sliced:
        return Thief(self.recipe, self.options.data).public_model()

    def score(self, model: torch.nn.Module) -> Counts:
        return evaluate(
            model.eval(),
            self.split("test"),
            {"": NO_KEY},
            normalization=normalization_of(self.recipe.model),
            device=CPU,
            batch=BATCH,
        )[""]

    def split(self, name: str) -> LabelledSet:
        return open_split(
            self.recipe.data, self.options.data, name, seed=self.recipe.train.seed
        )

    def keep(self, name: str, counts: Counts) -> None:
        """Counts of every image, for intervals."""
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.folder / f"{name}.npz", counts=counts)


def timed(session: Any, feeds: dict[str, Any]) -> float:
    since = time.perf_counter()
    session.run(None, feeds)
    return time.perf_counter() - since


def recipe_of(options: argparse.Namespace, share: str) -> Recipe:
    widths, side = SHARES["20" if share == WHOLE else share]
    overrides = [
        f"data.size=[{options.size}, {options.size}]",
        f"model.weights={options.weights}",
        "model.mean=[0.5, 0.5, 0.5]",
        "model.std=[0.5, 0.5, 0.5]",
        f"model.widths={widths}",
        f"model.side={side}",
        f"train.epochs={options.epochs}",
        f"train.seed={options.seed}",
        "train.checkpoint_s=60.0",
        *options.set,
    ]
    return read_recipe(options.recipe, overrides=overrides)


def size_of(module: torch.nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def seconds_of(run: Run) -> float:
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["seconds"])


def table(cells: Cells, options: argparse.Namespace) -> str:
    """What was measured at one size and seed, as tables in Markdown."""
    where = f"{options.recipe}/{options.size}/seed {options.seed}"
    found = cells.found
    lines = [
        "| model | share | mIoU | of the whole | private parameters |",
        "|-|-|-|-|-|",
    ]
    whole = found.get(f"{where}/accuracy/{WHOLE}")
    for share in (WHOLE, *SHARES):
        cell = found.get(f"{where}/accuracy/{share}")
        if cell is None:
            continue
        part = f"{cell['share']:.1%}" if share != WHOLE else ""
        ratio = f"{cell['score'] / whole['score']:.1%}" if whole else ""
        number = f"{cell['private_parameters']:,}"
        lines.append(f"| {share} | {part} | {cell['score']:.3f} | {ratio} | {number} |")
    for ways, share in ((("traffic",), "20"), (tuple(PRIVATE), WHOLE)):
        heads = ["labels", *CONTROLS, *ways, "stolen value"]
        lines += ["", f"| {' | '.join(heads)} |", "|-" * len(heads) + "|"]
        for labels in options.labels:
            names = [f"{where}/thief/{labels}/{one}" for one in (*CONTROLS, *ways)]
            if all(name in found for name in names):
                scores = " | ".join(f"{found[name]['score']:.3f}" for name in names)
                worth = stolen_value(Bench(options, share), labels, ways)
                lines.append(f"| {labels} | {scores} | {worth} |")
    lines += [
        "",
        "| share | client | host | sent | received | bundle |",
        "|-|-|-|-|-|-|",
    ]
    for share in SHARES:
        cell = found.get(f"{options.recipe}/{options.size}/costs/{share}")
        if cell is not None:
            sizes = [cell[f"{one}_bytes"] for one in ("sent", "received", "bundle")]
            said = " | ".join(f"{size / 1024:,.0f} KiB" for size in sizes)
            times = f"{cell['client_ms']} ms | {cell['host_ms']} ms"
            lines.append(f"| {cell['share']:.1%} | {times} | {said} |")
    return "\n".join(lines)


def stolen_value(bench: "Bench", labels: int, ways: tuple[str, ...]) -> str:
    """What ways of attack add to the same labels, with its 95 % interval.

    The control is the best of what is open to everybody; the attack is the best of
    these and of the ways.
    """
    task = bench.split("test").task

    def best(*ways: str) -> Counts:
        files = [bench.folder / f"thief-{labels}-{way}.npz" for way in ways]
        return max((np.load(file)["counts"] for file in files), key=task.score_of)

    attack, control = best(*CONTROLS, *ways), best(*CONTROLS)
    path = bench.folder / f"accuracy-{bench.share}.npz"
    if not path.exists():
        return "the correct key is not measured"
    owner = np.load(path)["counts"]
    draws = image_draws(len(owner), seed=0)
    rows = [task.redrawn_scores(one, draws) for one in (attack, control, owner)]
    low, high = np.percentile((rows[0] - rows[1]) / (rows[2] - rows[1]), (2.5, 97.5))
    scores = [task.score_of(one) for one in (attack, control, owner)]
    value = max(0.0, (scores[0] - scores[1]) / (scores[2] - scores[1]))
    return f"{value:.1%} ({max(0.0, low):.1%} – {max(0.0, high):.1%})"


if __name__ == "__main__":
    main()
