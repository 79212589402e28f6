"""Passports on a classifier: with the key, without it, and what thieves get.

Trains the model under passports and its plain twin, scores them, and attacks: without
a passport, with statistics taken again, with the scales and biases of the public
weights, and by learning scale and bias, two numbers a channel, with labels and without.
Controls learn the same way from the public weights, or from none, without the stolen.
Resumable; every cell is written when it is measured.

    python benchmarks/passports.py WORK --data crops --weights WEIGHTS.safetensors \
        --out passports.json
    python benchmarks/passports.py WORK --data crops --model cnn_small --epochs 20 \
        --rate 2e-3 --out passports.json
"""

import argparse
import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cells import Cells
from split_thief import mirrored
from torch import Tensor, nn

from mlguard.audit.attacks import Pool
from mlguard.audit.target import AuditTransforms, Subject
from mlguard.data import LabelledSet, open_split
from mlguard.keys import ModelKey
from mlguard.models import (
    NO_KEY,
    Condition,
    Normalization,
    build_model,
    keyed,
    normalization_of,
)
from mlguard.models.binding import keyed_norms
from mlguard.protect import DataFolder, Job, Run, named_recipe
from mlguard.protect.evaluate import evaluate
from mlguard.recipe import Recipe, read_recipe
from mlguard.transforms import TransformSet

KEY = ModelKey(hashlib.sha256(b"mlguard: passports; protects nothing").digest())
CPU = torch.device("cpu")
HALF = "[0.5, 0.5, 0.5]"
FINE_TUNED, NONE = "mobilenet_v2", "none"
BATCH = 32
LABELS = (64, 4)
UNLABELLED = 200  # images
KEYS = 10  # incorrect ones
SHOWN = 16  # images in a step
STEPS = 100  # as in the budget quick of an audit
TINY = 1e-6  # under a variance
RATE, RATE_OF_NORMS = 2e-3, 1e-2

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Learned = Callable[[nn.Module], tuple[list[nn.Parameter], float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path, help="folder for runs")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default=FINE_TUNED)
    parser.add_argument("--weights", default=NONE, help="public ones to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64, help="of the owner")
    parser.add_argument("--rate", type=float, default=3e-4, help="of the owner")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", default="", help="cells whose name has this")
    parser.add_argument("--out", type=Path, required=True, help="the file of cells")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells, bench = Cells(options.out), Bench(options)
    cells.fill(bench.pieces(), only=options.only)


class Bench:
    """One protected model, its twin, and its thieves."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.name = f"{options.epochs} epochs of {options.batch}, seed {options.seed}"
        if options.model != FINE_TUNED:
            self.name = f"{options.model}, {self.name}"
        self.folder = options.work / self.name.replace(" ", "-")
        self.data = DataFolder(options.data)

    @cached_property
    def recipe(self) -> Recipe:
        overrides = [
            "transform.method=passport",
            f"model.name={self.options.model}",
            f"model.weights={self.options.weights}",
            f"model.mean={HALF}",
            f"model.std={HALF}",
            f"train.epochs={self.options.epochs}",
            f"train.batch={self.options.batch}",
            f"train.learning_rate={self.options.rate}",
            f"train.seed={self.options.seed}",
        ]
        return named_recipe(read_recipe("imagefolder", overrides=overrides), self.data)

    @cached_property
    def run(self) -> Run:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.job(self.folder / "run").protect(KEY, key_name="benchmark")

    @cached_property
    def stolen(self) -> Subject:
        return Subject.load(self.run, CPU)

    def job(self, path: Path) -> Job:
        return Job(path, self.recipe, self.data, "imagefolder", "cpu", resume=True)

    def pieces(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """Every cell, by name, and what measures it."""
        cells: dict[str, Callable[[], dict[str, Any]]] = {
            "keys": self.keys,
            "statistics taken again, no labels": self.again,
            "scale and bias, no labels": lambda: self.plainly(self.fitted),
        }
        if self.options.weights != NONE:
            cells["scale and bias of the public weights"] = self.ancestors
        for number in LABELS:
            cells[f"scale and bias, {number} labels"] = lambda number=number: (
                self.taught(self.fitted, number, norms_alone)
            )
            cells[f"everything, {number} labels"] = lambda number=number: self.taught(
                self.stolen, number, everything
            )
            cells[f"control, {number} labels"] = lambda number=number: self.taught(
                self.public, number, everything
            )
        cells["baseline"] = self.baseline
        for name, measure in cells.items():
            yield f"{self.name}/{name}", measure

    def keys(self) -> dict[str, Any]:
        """The correct key, none, incorrect and nearly correct ones."""
        run, settings = self.run, self.recipe.audit
        subkeys = run.check(KEY)
        few = {"incorrect_keys": KEYS, "nearby": (0.1, 0.25, 0.5), "nearby_keys": 1}
        tried = AuditTransforms.derive(
            run.derive(subkeys), run.derive, subkeys, settings.model_copy(update=few)
        )
        near = [one for _, neighbours in tried.nearby for one in neighbours]
        every = [None, tried.correct, *tried.incorrect, *near]
        scores = self.scores(self.stolen, [condition_of(one) for one in every])
        wrong = scores[2 : 2 + KEYS]
        truth = torch.tensor([int(label) for _, label in self.split("test")])
        return {
            "floor": float(truth.bincount().max()) / len(truth),
            "images": len(truth),
            "correct": scores[1],
            "none": scores[0],
            "incorrect_mean": sum(wrong) / len(wrong),
            "incorrect_best": max(wrong),
            "nearby": dict(
                zip(("0.1", "0.25", "0.5"), scores[2 + KEYS :], strict=True)
            ),
            "key_bits": tried.correct.key_space_bits,
            "numbers": sum(2 * width for width in self.widths),
            "train_fingerprint": run.provenance["data"]["train_fingerprint"],
        }

    def baseline(self) -> dict[str, Any]:
        """The plain twin."""
        twin = self.job(self.run.path / "baseline").train_baseline(KEY)
        return self.plainly(Subject.load(twin, CPU))

    def again(self) -> dict[str, Any]:
        """No passport; the statistics of batch norms from the thief's own images."""
        model = copy.deepcopy(self.stolen.model).train()
        for norm in norms_of(model):
            norm.reset_running_stats()
            norm.momentum = None  # the plain average
        normalization = self.stolen.normalization
        with torch.no_grad():
            for part in self.pool(UNLABELLED).images.split(BATCH):
                model(normalization(part.float() / 255))
        return self.plainly(Subject(model.eval(), normalization, CPU))

    def ancestors(self) -> dict[str, Any]:
        """What a thief with the public weights puts into the batch norms."""
        model, public = copy.deepcopy(self.stolen.model), self.public.model
        for norm, known in zip(norms_of(model), norms_of(public), strict=True):
            norm.weight.data.copy_(known.weight)
            norm.bias.data.copy_(known.bias)
        return self.plainly(Subject(model, self.stolen.normalization, CPU))

    def taught(
        self, subject: Subject, number: int, learned_of: Learned
    ) -> dict[str, Any]:
        """What learning from the labels of `number` images makes of a model."""
        student = subject.copy(learns=learned_of is everything)
        lesson = Lesson(self.pool(number), student.normalization, self.options.steps)
        lesson.teach(student.model, *learned_of(student.model), of_labels)
        student.model.eval()
        return self.plainly(student)

    @cached_property
    def fitted(self) -> Subject:
        """Scale and bias by what the stolen statistics say; no label is needed."""
        student = self.stolen.copy()
        pool = self.pool(UNLABELLED)
        lesson = Lesson(pool, student.normalization, self.options.steps)
        lesson.teach(student.model, *norms_alone(student.model), of_statistics)
        return student

    @cached_property
    def public(self) -> Subject:
        """The public weights, and a head that knows nothing."""
        torch.manual_seed(1000 + self.options.seed)
        model = build_model(self.recipe.model, self.recipe.data.classes)
        return Subject(model.eval(), self.stolen.normalization, CPU)

    def plainly(self, subject: Subject) -> dict[str, Any]:
        return {"accuracy": self.scores(subject, [NO_KEY])[0]}

    def scores(self, subject: Subject, conditions: list[Condition]) -> list[float]:
        test = self.split("test")
        counts = evaluate(
            subject.model,
            test,
            {str(number): one for number, one in enumerate(conditions)},
            normalization=normalization_of(self.recipe.model),
            device=CPU,
            batch=BATCH,
        )
        return [test.task.score_of(one) for one in counts.values()]

    def pool(self, number: int) -> Pool:
        return Pool.draw(self.split("validation"), number, seed=self.options.seed)

    def split(self, name: str) -> LabelledSet:
        return open_split(
            self.recipe.data, self.options.data, name, seed=self.recipe.train.seed
        )

    @property
    def widths(self) -> list[int]:
        return [norm.num_features for norm in norms_of(self.stolen.model)]


@dataclass(frozen=True)
class Lesson:
    """A thief's images, and how long he learns from them; the rate falls to zero."""

    pool: Pool
    normalization: Normalization
    steps: int

    def teach(
        self, model: nn.Module, learned: list[nn.Parameter], rate: float, loss_of: Loss
    ) -> None:
        draws = torch.Generator().manual_seed(0)
        optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.0)
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / self.steps)
            rows = torch.randint(len(self.pool), (SHOWN,), generator=draws)
            flip = torch.randint(2, (SHOWN,), generator=draws).bool()
            images = mirrored(self.pool.images[rows], flip)
            pixels = self.normalization(images.float() / 255)
            loss = loss_of(model, pixels, self.pool.masks[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def of_labels(model: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    return F.cross_entropy(model(pixels), classes)


def of_statistics(model: nn.Module, pixels: Tensor, _: Tensor) -> Tensor:
    """How far what batch norms get is from the statistics in the weights."""
    found = []

    def look(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        stored = norm.running_var + TINY
        shift = (mean - norm.running_mean) ** 2 / stored
        spread = (((variance + TINY) / stored).sqrt() - 1) ** 2
        found.append((shift + spread).mean())

    hooks = [norm.register_forward_pre_hook(look) for norm in norms_of(model)]
    model(pixels)
    for hook in hooks:
        hook.remove()
    return torch.stack(found).sum()


def everything(model: nn.Module) -> tuple[list[nn.Parameter], float]:
    return list(model.parameters()), RATE


def norms_alone(model: nn.Module) -> tuple[list[nn.Parameter], float]:
    """Two numbers a channel; all else stays, statistics included."""
    norms = norms_of(model.requires_grad_(False))
    numbers = [one for norm in norms for one in (norm.weight, norm.bias)]
    return [one.requires_grad_() for one in numbers], RATE_OF_NORMS


def norms_of(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms that have a passport."""
    found = [model.get_submodule(one.norm) for one in keyed_norms(model)]
    return [norm for norm in found if isinstance(norm, nn.BatchNorm2d)]


def condition_of(transforms: TransformSet | None) -> Condition:
    return NO_KEY if transforms is None else keyed(transforms)


if __name__ == "__main__":
    main()
