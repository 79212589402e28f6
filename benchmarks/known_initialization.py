"""What the initial weights give away, when everybody can draw them and when nobody can.

Trains the demo's model twice: with initial weights that follow from the recipe's seed,
as version 0.1 drew them, and from a secret, as every model is trained now. Binds both
under every method, trains both under `channels`, and runs the attack
`known-initialization` on each.

    python benchmarks/known_initialization.py --out /tmp/known
"""

import argparse
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import torch

from mlguard.audit.attacks import (
    ATTACKS,
    Leaks,
    Pool,
    Scene,
    SplitReferee,
    likeliest_seed,
)
from mlguard.audit.findings import BUDGETS
from mlguard.audit.target import target_of_run
from mlguard.data import open_split
from mlguard.keys import ModelKey
from mlguard.models import NO_KEY, keyed
from mlguard.protect import DataFolder, Job, Run, bind_model, bound_recipe
from mlguard.recipe import Recipe, read_recipe

KEY = ModelKey(hashlib.sha256(b"mlguard: known weights; protects nothing").digest())
LAYERS = ("stages.0.branch.2", "stages.0", "stages.1.branch.2", "stages.1")
LAYERS += ("stages.2.branch.2", "stages.2", "classifier.1")
BOUND = {
    "np, M=4": (("np",), ()),
    "shf, M=4": (("shf",), ()),
    "orthogonal, M=4": (("orthogonal",), ()),
    "channels, 7 layers": (("channels",), LAYERS),
    "orthogonal, channels": (("orthogonal", "channels"), LAYERS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--epochs", type=int, default=8, help="of the plain models")
    parser.add_argument("--short", type=int, default=3, help="of those under channels")
    options = parser.parse_args()
    for name, drawing in (("seed 0", from_the_seed), ("secret", nullcontext)):
        print(f"initial weights from: {name}")
        with drawing():
            train_both(options.out / name.replace(" ", "-"), options)


@contextmanager
def from_the_seed() -> Iterator[None]:
    """Draw initial weights as version 0.1 did."""

    @contextmanager
    def drawn(secret: object) -> Iterator[None]:
        torch.manual_seed(0)
        yield

    with mock.patch("mlguard.protect.training.job.SecretWeights", drawn):
        yield


def train_both(folder: Path, options: argparse.Namespace) -> None:
    plain = job(folder / "plain", demo(f"train.epochs={options.epochs}"))
    run = plain.train_baseline()
    for name, (methods, layers) in BOUND.items():
        bound = bound_recipe(
            run, methods=methods, layers=layers, fold_batch_norm=bool(layers)
        )
        out = folder / name.replace(", ", "-")
        attack(f"bound: {name}", bind_model(run, bound, KEY, out, key_name="x").run)
    layers = ", ".join(f'"{layer}"' for layer in LAYERS)
    under = demo(
        f"train.epochs={options.short}",
        'transform.method="channels"',
        f"transform.layers=[{layers}]",
    )
    trained = job(folder / "channels", under).protect(KEY, key_name="x")
    attack(f"trained: channels, 7 layers, {options.short} epochs", trained)


def demo(*overrides: str) -> Recipe:
    return read_recipe("demo", overrides=list(overrides))


def job(path: Path, recipe: Recipe) -> Job:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Job(path, recipe, DataFolder(None), device="cpu")


def attack(name: str, run: Run) -> None:
    """Print what the attack gives, beside the correct key and none."""
    target = target_of_run(run, KEY, run.recipe.audit, torch.device("cpu"))
    test, own = (
        open_split(run.recipe.data, None, split, seed=0)
        for split in ("test", "validation")
    )
    stolen = target.load()
    scene = Scene(
        stolen=stolen,
        spec=target.spec,
        model=target.model,
        task=test.task,
        pool=Pool.draw(own, 4, seed=0),
        leaks=Leaks(target.transforms.correct),
        referee=SplitReferee(stolen, test, 32),
    )

    def score(condition: object) -> float:
        return scene.task.score_of(scene.referee(stolen.model, condition))

    correct, none = (
        score(keyed(target.transforms.correct, stolen.device)),
        score(NO_KEY),
    )
    tried = ATTACKS["known-initialization"].within(BUDGETS["quick"], seed=0)
    since = time.monotonic()
    (group,) = tried.variants(scene)
    (outcome,) = tried.run(scene, group)
    seed, sure = likeliest_seed(scene, BUDGETS["quick"].initial_seeds)
    print(
        f"{name:40} correct key {correct:.3f}  no key {none:.3f}  "
        f"attack {scene.task.score_of(outcome.counts):.3f}  seed {seed}, {sure:.0f} "
        f"standard deviations  {' '.join(outcome.notes)} "
        f"{time.monotonic() - since:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
