"""Make the challenge of docs/challenge.md, score what is sent in, and run our attacks.

    python benchmarks/challenge.py make challenge --run runs/plain --data camvid
    python benchmarks/challenge.py split challenge --data camvid --ancestor FILE
    python benchmarks/challenge.py controls challenge --data camvid --ancestor FILE
    python benchmarks/challenge.py attack challenge --track channels-26 --data camvid \
        --ancestor FILE --attack public-ancestor --labels 4 --out entry
    python benchmarks/challenge.py score challenge entry --data camvid
    python benchmarks/challenge.py table challenge

`make` binds a plain run under a key that it draws and throws away: nobody has it, the
organizers included.
"""

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import challenge_split
import numpy as np
import torch
from challenge_score import (
    BOARD,
    ENTRY,
    MASKS,
    RULES,
    Refused,
    checked,
    counts_of,
    read,
    sorted_sha256,
    worth,
    write,
)

from mlguard.audit.attacks import ATTACKS, Controls, Leaks, Pool, Scene, SplitReferee
from mlguard.audit.findings import BUDGETS, Budget
from mlguard.audit.target import Subject
from mlguard.data import LabelledSet, open_split
from mlguard.errors import MlguardError
from mlguard.files import atomic_write, sha256_of
from mlguard.keys import ModelKey
from mlguard.models import Condition, keyed
from mlguard.pictures import mask_png
from mlguard.protect import (
    Run,
    bind_model,
    bound_recipe,
    predict_classes,
    read_plain,
    read_run,
)
from mlguard.recipe import Recipe, read_recipe
from mlguard.tasks import Counts
from mlguard.transforms import TransformSet

RECIPE = "recipe.toml"
LABELS = (0, 1, 4, 16, 64)
COUNTS_FROM = 0.2  # stolen value; its interval must be above 0
CPU = torch.device("cpu")
TRACKS = {  # what is bound, and how
    "orthogonal-4": {"methods": ("orthogonal",), "block_size": 4},
    "channels": {"methods": ("channels",)},
    "orthogonal-channels": {"methods": ("orthogonal", "channels"), "block_size": 4},
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    try:
        options.do(options)
    except (Refused, MlguardError) as refusal:
        raise SystemExit(f"challenge: {refusal}") from None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    for name, do in (
        ("make", make),
        ("split", split),
        ("controls", controls),
        ("attack", attack),
        ("score", score),
        ("table", table),
    ):
        command = commands.add_parser(name)
        command.set_defaults(do=do)
        command.add_argument("folder", type=Path)
        if name == "score":
            command.add_argument("entry", type=Path)
        if name == "table":
            command.add_argument("--out", type=Path, help="the same as JSON")
        else:
            command.add_argument("--data", type=Path)
        if name == "make":
            command.add_argument("--run", type=Path, help="a plain run", required=True)
            command.add_argument("--layers", help="of channels", required=True)
            command.add_argument("--tracks", default=",".join(TRACKS))
        if name == "split":
            command.add_argument("--recipe", default="camvid_split")
            command.add_argument("--set", action="append", default=[])
            command.add_argument("--ancestor", help="the public weights", required=True)
        if name in ("attack", "controls"):
            command.add_argument("--track", required=name == "attack")
            command.add_argument("--ancestor", help="the public weights")
            command.add_argument("--budget", choices=BUDGETS, default="quick")
            command.add_argument("--steps", type=int, help="in place of the budget's")
            command.add_argument("--labels", default="4")
        if name == "attack":
            known = (*ATTACKS, *challenge_split.WAYS)
            command.add_argument("--attack", choices=known, required=True)
            command.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def make(options: argparse.Namespace) -> None:
    """Bind every track under a key of its own, and write down the rules."""
    if options.folder.exists() and any(options.folder.iterdir()):
        raise Refused(f"{options.folder} is not empty; expected a new folder")
    plain = read_plain(options.run, None)
    tracks, names = {}, options.tracks.split(",")
    if unknown := [name for name in names if name not in TRACKS]:
        raise Refused(f"no track {unknown[0]!r}; expected some of {', '.join(TRACKS)}")
    test = open_split(plain.recipe.data, options.data, "test", seed=0)
    own = open_split(plain.recipe.data, options.data, "validation", seed=0)
    for name in names:
        tracks[name] = bind_track(name, plain, test, options)
        print(f"{name}: correct key {tracks[name]['correct']:.4f}", flush=True)
    begin(options.folder, test, own, tracks)


def split(options: argparse.Namespace) -> None:
    """Train the split track, for a challenge that there is or a new one."""
    recipe, track = challenge_split.make_track(options)
    print(f"split: correct key {track['correct']:.4f}", flush=True)
    path = options.folder / RULES
    if not path.exists():
        test, own = (
            open_split(recipe.data, options.data, one, seed=0)
            for one in ("test", "validation")
        )
        begin(options.folder, test, own, {challenge_split.TRACK: track})
        return
    rules = read(path)
    sets_of(recipe, options.data, rules)
    rules["tracks"][challenge_split.TRACK] = track
    write(path, rules)


def begin(folder: Path, test: LabelledSet, own: LabelledSet, tracks: dict) -> None:
    rules = {
        "schema": "mlguard.challenge/1",
        "test": test.fingerprint,
        "adversary": own.fingerprint,
        "labels": list(LABELS),
        "counts_from": COUNTS_FROM,
        "classes": test.task.classes,
        "images": len(test),
        "tracks": tracks,
        "controls": {},
    }
    write(folder / RULES, rules)
    write(folder / BOARD, {"entries": []})


def bind_track(
    name: str, plain: Run, test: LabelledSet, options: argparse.Namespace
) -> dict[str, object]:
    settings = dict(TRACKS[name])
    if "channels" in settings["methods"]:
        settings |= {"layers": options.layers.split(","), "fold_batch_norm": True}
    recipe = bound_recipe(plain, **settings)
    key, folder = ModelKey.generate(), options.folder / name
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "run"
        done = bind_model(plain, recipe, key, whole, key_name="thrown away")
        transforms = done.run.derive(done.run.protection.subkeys(key))
        subject = Subject.load(done.run, CPU)
        counts = SplitReferee(subject, test, 16)(subject.model, keyed(transforms))
        folder.mkdir(parents=True)
        for path in whole.iterdir():  # the plain twin is what is to be stolen
            if path.is_file():
                shutil.copy(path, folder)
    return {
        "weights_sha256": sha256_of(folder / "model.safetensors"),
        "correct": test.task.score_of(counts),
        "floor": test.task.floor(test.task.total(counts)),
        "per_image": counts.tolist(),
    }


def controls(options: argparse.Namespace) -> None:
    """Train what an entry is compared with: the same labels and no stolen model."""
    rules = read(options.folder / RULES)
    name = options.track or next(iter(rules["tracks"]))
    if name == challenge_split.TRACK:
        challenge_split.controls(options, rules, numbers(options.labels))
        return
    scene = scene_of(options, name, rules)
    for number in numbers(options.labels):
        known = rules["controls"].get(str(number), {})
        settings = f"{options.budget}, {budget_of(options).steps} steps"
        if settings in known:
            continue
        found = Controls(scene, budget_of(options), 0).at(number)
        parts = [part for part in (found.scratch, found.ancestor) if part is not None]
        best = max(parts, key=scene.task.score_of)
        known[settings] = {
            "score": scene.task.score_of(best),
            "per_image": best.tolist(),
        }
        rules["controls"][str(number)] = known
        write(options.folder / RULES, rules)
        print(f"{number} labels: {known[settings]['score']:.4f}", flush=True)


def attack(options: argparse.Namespace) -> None:
    """Run one of our attacks, and write what it found as an entry."""
    rules = read(options.folder / RULES)
    if options.track not in rules["tracks"]:
        raise Refused(f"no track {options.track!r} in {options.folder}")
    if options.out.exists():
        raise Refused(f"{options.out} exists; expected a new folder")
    if (options.track == challenge_split.TRACK) != (
        options.attack in challenge_split.WAYS
    ):
        raise Refused(f"{options.attack} is no attack on track {options.track}")
    if options.track == challenge_split.TRACK:
        challenge_split.attack(options, numbers(options.labels)[0])
        return
    scene = scene_of(options, options.track, rules)
    kind = ATTACKS[options.attack].within(budget_of(options), seed=0)
    if why := kind.impossible(scene):
        raise Refused(f"{options.attack}: {why}")
    wanted = set(numbers(options.labels))
    since, best = time.monotonic(), None
    for group in kind.variants(scene):
        if not {one.labels for one in group} & wanted:
            continue
        for outcome in kind.run(scene, group):
            value = scene.task.score_of(outcome.counts)
            if best is None or value > best[0]:
                best = value, outcome
                scene.referee.keep(outcome.counts, options.out / MASKS)
    if best is None:
        raise Refused(f"{options.attack} has no variant with {options.labels} labels")
    _, outcome = best
    entry = {
        "track": options.track,
        "name": f"{outcome.attack}, {outcome.variant}",
        "by": "mlguard",
        "labels": outcome.labels,
        "public_weights": outcome.rung == "T5",
        "seconds": round(time.monotonic() - since),
    }
    write(options.out / ENTRY, entry)


@dataclasses.dataclass
class Predicting:
    """A referee that remembers the answers it counted."""

    subject: Subject
    test: LabelledSet
    answers: dict[bytes, list[np.ndarray]] = dataclasses.field(default_factory=dict)

    def __call__(self, model: torch.nn.Module, condition: Condition) -> Counts:
        counts, masks = [], []
        for index in range(len(self.test)):
            image, mask = self.test[index]
            found = predict_classes(
                model.eval(), image[None], condition, self.subject.normalization
            ).numpy()
            counts.append(self.test.task.count(found, mask[None].numpy()))
            masks.append(found[0].astype(np.uint8))
        whole = np.concatenate(counts)
        self.answers[whole.tobytes()] = masks
        return whole

    def keep(self, counts: Counts, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for index, mask in enumerate(self.answers[counts.tobytes()]):
            atomic_write(folder / f"{index:04}.png", mask_png(mask))


def scene_of(options: argparse.Namespace, name: str, rules: dict) -> Scene:
    run = read_run(options.folder / name)
    form = run.recipe.model.model_copy(update={"weights": options.ancestor or "none"})
    test, own = sets_of(run.recipe, options.data, rules)
    subject = Subject.load(run, CPU)
    pool = Pool.draw(own, max(LABELS), seed=0)
    return Scene(
        stolen=subject,
        spec=run.recipe.transform,
        model=form,
        task=test.task,
        pool=pool,
        leaks=Leaks(TransformSet(None)),  # nobody has seen the key's work
        referee=Predicting(subject, test),
    )


def sets_of(recipe: Recipe, data: Path, rules: dict) -> tuple[LabelledSet, LabelledSet]:
    test, own = (
        open_split(recipe.data, data, split, seed=0) for split in ("test", "validation")
    )
    if (test.fingerprint, own.fingerprint) != (rules["test"], rules["adversary"]):
        raise Refused("these are not the images that the challenge was made with")
    return test, own


def budget_of(options: argparse.Namespace) -> Budget:
    budget = dataclasses.replace(
        BUDGETS[options.budget], labelled=tuple(numbers(options.labels)) or (4,)
    )
    steps = {} if options.steps is None else {"steps": options.steps}
    return dataclasses.replace(budget, **steps)


def numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def score(options: argparse.Namespace) -> None:
    """Count the masks of an entry, and put it on the leaderboard."""
    rules, board = (read(options.folder / name) for name in (RULES, BOARD))
    entry = checked(read(options.entry / ENTRY), rules)
    recipe = read_recipe(str(options.folder / entry["track"] / RECIPE))
    test, _ = sets_of(recipe, options.data, rules)
    counts = counts_of(options.entry / MASKS, test)
    entry |= worth(counts, rules, entry, test.task)
    entry["masks_sha256"] = sorted_sha256(options.entry / MASKS)
    same = ("track", "name", "by", "labels")
    board["entries"] = [
        one for one in board["entries"] if any(one[k] != entry[k] for k in same)
    ]
    board["entries"].append(entry)
    write(options.folder / BOARD, board)
    print(json.dumps(entry, indent=1))


def table(options: argparse.Namespace) -> None:
    """The leaderboard, best entries first."""
    rules, board = (read(options.folder / name) for name in (RULES, BOARD))
    print("| track | labels | entry | by | mIoU | control | stolen value | counts |")
    print("|---|---|---|---|---|---|---|---|")
    order = sorted(board["entries"], key=lambda one: -(one["stolen_value"] or 0))
    for one in sorted(order, key=lambda one: list(rules["tracks"]).index(one["track"])):
        low, high = (f"{100 * end:.0f}" for end in one["interval"] or (0, 1))
        print(
            f"| `{one['track']}` | {one['labels']} | {one['name']} | {one['by']} "
            f"| {one['score']:.3f} | {one['control']:.3f} "
            f"| {100 * (one['stolen_value'] or 0):.0f} % ({low} to {high}) "
            f"| {'yes' if one['counts'] else 'no'} |"
        )
    if options.out:
        write(options.out, summary(rules, board))


def summary(rules: dict, board: dict) -> dict[str, object]:
    """What the leaderboard rests on, without the counts of every image."""
    return {
        "entries": board["entries"],
        "tracks": {
            name: {"correct": one["correct"], "floor": one["floor"]}
            for name, one in rules["tracks"].items()
        },
        "controls": {
            number: {name: one["score"] for name, one in known.items()}
            for number, known in rules["controls"].items()
        },
    }


if __name__ == "__main__":
    main()
