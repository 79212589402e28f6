"""What attacks give on a model of photographs that was bound to a key.

Binds a plain run (`mlguard train`) to a demonstration key in memory, runs some attacks
with the validation images, and scores what they found on the test images. To keep a
search short on a CPU its images can be cropped (`--crop`); scores are of whole images.

    python benchmarks/attacks_on_photographs.py runs/plain --data camvid \
        --method channels --layers features.13 --attacks retraining,public-ancestor
    python benchmarks/attacks_on_photographs.py runs/plain --data camvid \
        --method np --block-size 2 --attacks exhaustive --crop 128
    python benchmarks/attacks_on_photographs.py runs/plain --data camvid \
        --method shf --untie 2.5e-5 --attacks weights-only --images 8

`--train RECIPE` trains a run under the same key instead, which binds nothing:

    python benchmarks/attacks_on_photographs.py runs/np4 --data camvid \
        --method np --train camvid --attacks activation-matching,hill-climbing

`--integer-seed N` takes the key that the published research code makes of N in place of
ours, to measure what it takes to find one:

    python benchmarks/attacks_on_photographs.py runs/plain --data camvid \
        --method shf --integer-seed 42 --attacks integer-seeds --crop 128
"""

import argparse
import dataclasses
import hashlib
import json
import time
from pathlib import Path

import torch

from mlguard import recipe as settings
from mlguard.audit.attacks import (
    ATTACKS,
    Attack,
    Controls,
    Leaks,
    Pool,
    Scene,
    SplitReferee,
    published_transforms,
    window_covariance,
)
from mlguard.audit.findings import BUDGETS, Budget
from mlguard.audit.target import Subject
from mlguard.data import LabelledSet, open_split
from mlguard.keys import ModelKey
from mlguard.models import NO_KEY, feature_channels, keyed, normalization_of, rewrite
from mlguard.models.binding import find_stem
from mlguard.models.conditions import cut, join
from mlguard.protect import DataFolder, Job
from mlguard.protect.binding import fold
from mlguard.protect.run_folder import Run, read_run
from mlguard.recipe import read_recipe
from mlguard.transforms import KeyedTransforms, TransformSet

KEY = ModelKey(hashlib.sha256(b"mlguard: photographs; protects nothing").digest())
PROTECTION_ID = bytes(16)
DEVICE = torch.device("cpu")
UNTIED_BY = 120  # training images whose covariance says where noise is free


def main() -> None:
    options = parse()
    run = train(options) if options.train else read_run(options.run)
    form = run.recipe.model
    if options.train:
        spec, model = run.recipe.transform, run.load_model().eval()
        transforms = run.derive(run.protection.subkeys(KEY))
    else:
        spec, plain = transform_of(options), run.load_model().eval()
        transforms = transforms_of(plain, spec, run, options.integer_seed)
        form = form_of(form, spec, options)
        model = rewrite(plain, form, spec.block_size)
        if options.untie:
            untie(model, run, options)
        fold(model, transforms, normalization_of(form))
    test, own = (
        open_split(run.recipe.data, options.data, split, seed=run.recipe.train.seed)
        for split in ("test", "validation")
    )
    scene = scene_of(model, spec, form, transforms, test, own, options)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{spec.methods}, {transforms.key_space_bits:.1f} bits")
    print(f"scored on {len(range(0, len(test), options.every))} images")
    rows = Rows(options)
    for name, condition in (("correct key", keyed(transforms)), ("no key", NO_KEY)):
        if not rows.known(name):
            counts = scene.referee(scene.stolen.model, condition)
            rows.add(name, score=scene.task.score_of(counts))
    for attack in attacks_of(options):
        why = attack.impossible(scene)
        if why:
            print(f"{attack.name}: {why}")
            continue
        run_attack(scene, attack, rows, options)
    if options.controls:
        train_controls(scene, rows, options)


def train(options: argparse.Namespace) -> Run:
    """Train under the demonstration key, or open what was trained so before."""
    if options.run.exists():
        return read_run(options.run)
    changes = [f"transform.method={options.method}", *options.set]
    changes.append(f"transform.block_size={options.block_size}")
    recipe = read_recipe(options.train, overrides=changes)
    job = Job(options.run, recipe, DataFolder(options.data), recipe_name=options.train)
    return job.protect(KEY, key_name="demonstration")


def run_attack(
    scene: Scene, attack: Attack, rows: "Rows", options: argparse.Namespace
) -> None:
    for group in attack.variants(scene):
        left = [one for one in group if one.name not in options.skip.split(",")]
        if all(rows.known(attack.name, one.name, one.labels) for one in left):
            continue
        since = time.monotonic()
        for outcome in attack.run(scene, group):
            now = time.monotonic()
            rows.add(
                outcome.attack,
                outcome.variant,
                outcome.labels,
                score=scene.task.score_of(outcome.counts),
                rung=outcome.rung,
                images=outcome.images,
                converged=outcome.converged,
                notes=list(outcome.notes),
                queries=outcome.queries,
                seconds=round(now - since, 1),
            )
            since = now


class Rows:
    """What was measured, printed, and kept in a file from which a run goes on."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._path: Path | None = options.out
        told = {"run", "data", "out", "attacks", "skip", "controls", "labelled"}
        told |= {"starts", "train", "set"}
        asked = {name: str(one) for name, one in vars(options).items()}
        asked = {name: one for name, one in asked.items() if name not in told}
        self._whole = {"options": asked, "torch": torch.__version__, "rows": []}
        if self._path is not None and self._path.exists():
            self._whole = json.loads(self._path.read_text())
            if self._whole["options"] != asked:
                raise SystemExit(f"{self._path} has rows of other options")

    def known(self, attack: str, variant: str = "", labels: int = 0) -> bool:
        names = {"attack": attack, "variant": variant, "labels": labels}
        return any(names.items() <= row.items() for row in self._whole["rows"])

    def add(
        self, attack: str, variant: str = "", labels: int = 0, **numbers: object
    ) -> None:
        row = {"attack": attack, "variant": variant, "labels": labels, **numbers}
        self._whole["rows"].append(row)
        print(json.dumps(row), flush=True)
        if self._path is not None:
            self._path.write_text(json.dumps(self._whole, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="a plain run folder; or see --train")
    parser.add_argument("--data", type=Path, help="the folder of its data")
    parser.add_argument("--method", default="channels")
    parser.add_argument("--block-size", type=int, default=4)
    parser.add_argument("--layers", default="features.13")
    parser.add_argument("--fold-batch-norm", action="store_true")
    parser.add_argument("--attacks", default="retraining,public-ancestor")
    parser.add_argument("--ancestor", help="public weights; else the recipe's")
    parser.add_argument("--labelled", default="1,4,16", help="for re-training")
    parser.add_argument("--images", type=int, default=16, help="for a search")
    parser.add_argument("--guesses", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--patient-steps", type=int, default=0)
    parser.add_argument("--patient-rates", default="3e-4,1e-3,3e-3")
    parser.add_argument("--every", type=int, default=1, help="score each N-th image")
    parser.add_argument("--controls", action="store_true", help="train them too")
    parser.add_argument("--starts", default="ancestor,scratch", help="of controls")
    parser.add_argument("--skip", default="", help="variants of re-training")
    parser.add_argument("--crop", type=int, help="side of the adversary's images")
    parser.add_argument("--untie", type=float, help="variance, [0, 1]² of pixels")
    parser.add_argument("--integer-seed", type=int, help="plant a published key")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON; rows in it are not run again")
    parser.add_argument("--train", help="a recipe; trains under its transform first")
    parser.add_argument("--set", action="append", default=[], help="of that recipe")
    return parser.parse_args()


def transform_of(
    options: argparse.Namespace,
) -> settings.Transform:
    methods = tuple(options.method.split(","))
    layers = tuple(options.layers.split(",")) if "channels" in methods else ()
    return settings.Transform(
        method=methods,
        block_size=options.block_size,
        layers=layers,
    )


def transforms_of(
    plain: torch.nn.Module,
    spec: settings.Transform,
    run: Run,
    integer_seed: int | None,
) -> TransformSet:
    subkeys = KEY.for_model(PROTECTION_ID)
    height, width = run.recipe.data.size
    channels = feature_channels(plain, spec.layers, (height, width))
    if integer_seed is not None:
        return published_transforms(spec, integer_seed, channels=channels)
    keyed = KeyedTransforms.of(
        spec.image_methods, spec.block_size, channels, signs=spec.signs
    )
    return keyed.derive(subkeys)


@torch.no_grad()
def untie(model: torch.nn.Module, run: Run, options: argparse.Namespace) -> None:
    """Fill a lifted stem's zeros with noise that photographs hardly show.

    What distilling the plain stem from random weights ends at: where training images
    have a variance far below `--untie`, the weights stay random; far above, they are
    the plain ones. The bias takes up the mean.
    """
    stem, normalization = find_stem(model).layer, normalization_of(run.recipe.model)
    train = open_split(run.recipe.data, options.data, "train", seed=0)
    images = torch.stack([train[index][0] for index in range(UNTIED_BY)])
    size, weight = stem.block_size, stem.windows.weight
    seen = torch.from_numpy(window_covariance(stem, images, normalization))
    std = torch.tensor(normalization.std, dtype=torch.float64).view(1, 3, 1, 1)
    known = cut(weight.double() / std, size)  # (O, blocks, L)
    noise = torch.randn(known.shape, generator=torch.manual_seed(0)).double()
    noise *= known[known != 0].square().mean().sqrt()
    free = torch.linalg.inv(torch.eye(len(seen)) + seen / options.untie)
    noise = (noise.flatten(1) @ free).view_as(known)
    share = noise[known == 0].square().mean() / known[known != 0].square().mean()
    added = join(noise, size, weight.shape[-2:]) * std
    middle = normalization(images.double() / 255).mean((0, 2, 3))
    weight += added
    stem.windows.bias -= (added.sum((2, 3)) @ middle).float()
    print(f"noise where there were zeros: {share.sqrt():.2f} of the weights")


def form_of(
    model: settings.Model, spec: settings.Transform, options: argparse.Namespace
) -> settings.Model:
    """The [model] section of what binding makes."""
    form = {
        "stem": "blocks" if spec.image_methods else "plain",
        "batch_norm": "folded" if options.fold_batch_norm else "running",
    }
    return model.model_copy(update=form)


def scene_of(
    model: torch.nn.Module,
    spec: settings.Transform,
    form: settings.Model,
    transforms: TransformSet,
    test: LabelledSet,
    own: LabelledSet,
    options: argparse.Namespace,
) -> Scene:
    subject = Subject(model.eval(), normalization_of(form), DEVICE)
    if options.ancestor:
        form = form.model_copy(update={"weights": options.ancestor})
    pool = Pool.draw(own, 64, seed=options.seed)
    if options.crop:
        side = slice(64, 64 + options.crop)
        images, masks = pool.images[..., side, side], pool.masks[..., side, side]
        pool = dataclasses.replace(pool, images=images, masks=masks)
    return Scene(
        stolen=subject,
        spec=spec,
        model=form,
        task=test.task,
        pool=pool,
        leaks=Leaks(transforms),
        referee=SplitReferee(subject, scored(test, options.every), 16),
    )


def scored(test: LabelledSet, every: int) -> LabelledSet:
    """Some of the images; what a referee asks of a set, a `Subset` has."""
    if every == 1:
        return test
    some = torch.utils.data.Subset(test, range(0, len(test), every))
    some.task = test.task
    return some


def attacks_of(options: argparse.Namespace) -> list[Attack]:
    names, budget = options.attacks.split(","), budget_of(options)
    return [ATTACKS[name].within(budget, seed=options.seed) for name in names]


def budget_of(options: argparse.Namespace) -> Budget:
    return dataclasses.replace(
        BUDGETS["quick"],
        search_images=options.images,
        guesses=options.guesses,
        labelled=tuple(int(number) for number in options.labelled.split(",")),
        steps=options.steps,
        patient_labelled=tuple(int(number) for number in options.labelled.split(",")),
        patient_steps=options.patient_steps,
        patient_rates=tuple(float(rate) for rate in options.patient_rates.split(",")),
    )


def train_controls(scene: Scene, rows: Rows, options: argparse.Namespace) -> None:
    """The same images and steps without the stolen weights."""
    budget = budget_of(options)
    controls = Controls(scene, budget, options.seed, options.patient_steps > 0)
    starts = controls.starts()
    for number in budget.labelled:
        for name in options.starts.split(","):
            if name not in starts or rows.known("control", name, number):
                continue
            since = time.monotonic()
            counts, settled = controls.best(number, starts[name])
            rows.add(
                "control",
                name,
                number,
                score=scene.task.score_of(counts),
                converged=settled,
                seconds=round(time.monotonic() - since, 1),
            )


if __name__ == "__main__":
    main()
