"""The split track of the challenge: what a host holds, and what its traffic is worth.

    python benchmarks/challenge.py split challenge --data camvid --ancestor FILE \
        --recipe camvid_split --set data.size=[128,128] --set train.epochs=40

trains a model in two halves under a key that is drawn and thrown away, and gives out
its recipe, its public half and its sealed private half. The training images, without
their masks, count as the host's traffic.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from challenge_score import ENTRY, MASKS, RULES, Refused, write
from split_thief import BATCH, CONTROLS, RATES, STEPS, Thief

from mlguard.audit.attacks import Pool
from mlguard.data import LabelledSet, open_split
from mlguard.files import atomic_write, sha256_of
from mlguard.keys import ModelKey
from mlguard.models import NO_KEY, normalization_of
from mlguard.pictures import mask_png
from mlguard.protect import DataFolder, Job, predict_classes
from mlguard.protect.evaluate import evaluate
from mlguard.protect.export import export_run
from mlguard.recipe import Recipe, read_recipe
from mlguard.tasks import Counts

TRACK = "split"
BUNDLE = "private.mlgb"
RECIPE = "recipe.toml"
WAYS = tuple(RATES)
CPU = torch.device("cpu")


def make_track(options: argparse.Namespace) -> tuple[Recipe, dict[str, object]]:
    """Train a model in two halves, keep what a thief of the host and of files finds."""
    own = [f"model.weights={options.ancestor}", "train.seed=0", *options.set]
    recipe = read_recipe(options.recipe, overrides=own)
    folder = options.folder / TRACK
    if folder.exists():
        raise Refused(f"{folder} exists; expected a challenge without this track")
    key, data = ModelKey.generate(), DataFolder(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(Path(scratch) / "run", recipe, data, recipe_name=options.recipe)
        run = job.protect(key, key_name="thrown away")
        folder.mkdir(parents=True)
        export_run(run, key, folder / BUNDLE)
        text = (run.path / RECIPE).read_text()
        counts = scored(run.unlocked(key).load_model(), recipe, options.data)
    atomic_write(folder / RECIPE, text.encode())
    test = open_split(recipe.data, options.data, "test", seed=0)
    return recipe, {
        "weights_sha256": sha256_of(folder / BUNDLE),
        "correct": test.task.score_of(counts),
        "floor": test.task.floor(test.task.total(counts)),
        "per_image": counts.tolist(),
    }


def controls(options: argparse.Namespace, rules: dict, labels: list[int]) -> None:
    """Train on the same labels and public weights, without the traffic."""
    recipe = recipe_of(options)
    test = open_split(recipe.data, options.data, "test", seed=0)
    for number in labels:
        known = rules["controls"].setdefault(str(number), {})
        for way in CONTROLS:
            settings = f"split: {way}, {STEPS[way]} steps"
            if settings in known:
                continue
            counts, _ = best_of(recipe, options.data, way, number)
            value = test.task.score_of(counts)
            known[settings] = {"score": value, "per_image": counts.tolist()}
            write(options.folder / RULES, rules)
            print(f"{number} labels, {way}: {value:.4f}", flush=True)


def attack(options: argparse.Namespace, labels: int) -> None:
    """Attack with the traffic, or with what everybody has, and write an entry."""
    recipe, since = recipe_of(options), time.monotonic()
    _, model = best_of(recipe, options.data, options.attack, labels)
    test = open_split(recipe.data, options.data, "test", seed=0)
    (options.out / MASKS).mkdir(parents=True)
    for index, mask in enumerate(answers(model, recipe, test)):
        atomic_write(options.out / MASKS / f"{index:04}.png", mask_png(mask))
    entry = {
        "track": TRACK,
        "name": f"{options.attack} on the public backbone",
        "by": "mlguard",
        "labels": labels,
        "public_weights": True,
        "seconds": round(time.monotonic() - since),
    }
    write(options.out / ENTRY, entry)
    print(json.dumps(entry))


def best_of(
    recipe: Recipe, data: Path, way: str, labels: int
) -> tuple[Counts, torch.nn.Module]:
    """The best of a way's learning rates, by the test images: no thief does better."""
    thief, found = Thief(recipe, data), []
    given = Pool.draw(thief.split("validation"), labels, seed=0)
    for rate in RATES[way]:
        model = thief.train(way, (given.images, given.masks), rate)
        found.append((scored(model, recipe, data), model))
    task = thief.split("test").task
    return max(found, key=lambda one: task.score_of(one[0]))


def scored(model: torch.nn.Module, recipe: Recipe, data: Path) -> Counts:
    return evaluate(
        model.eval(),
        open_split(recipe.data, data, "test", seed=0),
        {"": NO_KEY},
        normalization=normalization_of(recipe.model),
        device=CPU,
        batch=BATCH,
    )[""]


def answers(
    model: torch.nn.Module, recipe: Recipe, test: LabelledSet
) -> list[np.ndarray]:
    normalization = normalization_of(recipe.model)
    return [
        predict_classes(model, test[index][0][None], NO_KEY, normalization)[0]
        .numpy()
        .astype(np.uint8)
        for index in range(len(test))
    ]


def recipe_of(options: argparse.Namespace) -> Recipe:
    given = [f"model.weights={options.ancestor}"] if options.ancestor else []
    return read_recipe(str(options.folder / TRACK / RECIPE), overrides=given)
