"""Audits of models whose every weight is sealed: who has the files, who has the memory.

Trains a plain model for each seed, binds it under `weights` alone and after an image
method, and audits what comes out: all conditions, and attacks T0 to T6 with the public
weights that training started from. What is finished in the folder is not done again.

    python benchmarks/sealed_audit.py runs --data camvid \
        --weights mobilenet_v2.safetensors --out docs/results/sealed_audit.json
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch

from mlguard.audit import read_report, report_folder, write_report
from mlguard.audit.findings import limits_of
from mlguard.audit.report import JSON, LOG, AuditReport, dump_report
from mlguard.audit.run import Adversary, AuditPlan, audit
from mlguard.audit.target import target_of_run
from mlguard.data import open_split
from mlguard.keys import ModelKey
from mlguard.protect import (
    DataFolder,
    Job,
    Run,
    bind_model,
    bound_recipe,
    read_plain,
    read_run,
)
from mlguard.protect.run_folder import is_finished
from mlguard.recipe import read_recipe

KEY = ModelKey(hashlib.sha256(b"mlguard: sealed audits; protects nothing").digest())
NOTHING = "the key does nothing"
BOUND = (("weights",), ("orthogonal", "weights"))


def main() -> None:
    options = parse()
    if options.page:
        print(page(json.loads(options.page.read_text())))
        return
    torch.set_num_threads(options.threads)
    audits = []
    for methods, seed in product(BOUND, options.seeds):
        plain = trained(options.runs / f"plain-{seed}", seed, options)
        name = f"{'-'.join(methods)}-{seed}"
        run = bound(plain, methods, options.runs / name)
        report = audited(run, options.runs / f"report-{name}", options)
        audits.append({"train_seed": seed, "methods": methods, **facts(report)})
        print(*rows(report, seed), sep="\n", flush=True)
        if options.out:
            options.out.write_text(json.dumps(audits, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="?", help="folder of runs and reports")
    parser.add_argument("--page", type=Path, help="print the table of a JSON file")
    parser.add_argument("--data", type=Path, help="CamVid's folder")
    parser.add_argument("--weights", help="public weights, safetensors")
    parser.add_argument("--size", type=int, default=128, help="side of images, pixels")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--incorrect-keys", type=int, default=5)
    parser.add_argument("--nearby", type=float, nargs="+", default=[0.25])
    parser.add_argument("--attacks", nargs="+", default=[], help="names; all if none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="raw numbers, JSON")
    return parser.parse_args()


def trained(path: Path, seed: int, options: argparse.Namespace) -> Run:
    """The plain model of a seed, as `mlguard train --recipe camvid_bound` makes it."""
    if is_finished(path):
        return read_plain(path)
    halves = "[0.5, 0.5, 0.5]"  # how the images of these weights were normalized
    recipe = read_recipe(
        "camvid_bound",
        overrides=[
            f"train.seed={seed}",
            f"train.epochs={options.epochs}",
            f"data.size=[{options.size}, {options.size}]",
            f'model.weights="{options.weights}"',
            f"model.mean={halves}",
            f"model.std={halves}",
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    job = Job(path, recipe, DataFolder(options.data), device="cpu", resume=True)
    return job.train_baseline()


def bound(plain: Run, methods: tuple[str, ...], path: Path) -> Run:
    """The plain model under a key of this benchmark, without training."""
    if not (path / "proofs.json").exists():
        recipe = bound_recipe(plain, methods=methods, block_size=4)
        bind_model(plain, recipe, KEY, path, key_name="acme")
    return read_run(path)


def audited(run: Run, out: Path, options: argparse.Namespace) -> AuditReport:
    """The audit of a run, as `mlguard audit --resume` makes it."""
    if (out / JSON).exists():
        return read_report(out / JSON)
    changes = {
        "budget": "quick",
        "incorrect_keys": options.incorrect_keys,
        "nearby": tuple(options.nearby),
        "nearby_keys": 1,
        "attacks": tuple(options.attacks) or run.recipe.audit.attacks,
    }
    settings = run.recipe.audit.model_copy(update=changes)
    target = target_of_run(run, KEY, settings, torch.device("cpu"))
    test, own = (
        open_split(run.recipe.data, options.data, split, seed=run.recipe.train.seed)
        for split in ("test", "validation")
    )
    plan = AuditPlan(
        target=target,
        images=test,
        split="test",
        settings=settings,
        limits=limits_of(settings),
        adversary=Adversary(own, "validation"),
        examples=0,
    )
    with report_folder(out, resume=True) as folder:
        found = audit(plan, out / LOG, resume=True)
        secret = target.proof_secret
        write_report(folder, found.report, found.gallery, secret=secret)
    return found.report


def facts(report: AuditReport) -> dict[str, Any]:
    """What is kept of a report: everything but the scores of single classes."""
    whole: dict[str, Any] = json.loads(dump_report(report))
    del whole["subject"]["protection_id"]
    return whole


def rows(report: AuditReport, seed: int) -> Iterator[str]:
    """An audit in lines: conditions, attacks, verdicts."""
    found, subject = report.findings, report.subject
    name = f"seed {seed}  {', '.join(subject.methods):18}"
    yield f"{name}  correct key {found.correct.score:.3f}  floor {found.floor:.3f}"
    if found.no_key is not None:
        yield f"{name}  memory, no key {found.no_key.score:.3f}"
    if found.incorrect is not None:
        keys = found.incorrect
        yield f"{name}  memory, incorrect keys {keys.mean:.3f}, {keys.maximum:.3f}"
    for one in report.attacks.findings if report.attacks else ():
        control = f"control {one.control:.3f}  stolen {one.stolen_value}"
        yield (
            f"{name}  {one.rung} {one.attack}, {one.variant}, {one.images} images: "
            f"{one.score:.3f}  {control}"
        )
    for one in report.verdicts:
        yield f"{name}  {one.claim}: {one.answer} {one.measured}"


def page(audits: list[dict[str, Any]]) -> str:
    """The table of the results page: who has what, and what each model gives him."""
    heads = [f"{', '.join(one['methods'])}; seed {one['train_seed']}" for one in audits]
    columns = [cells(one) for one in audits]
    names = sorted(
        dict.fromkeys(name for column in columns for name in column),
        key=lambda name: name[:2] if name[1].isdigit() else "",
    )
    lines = [
        f"| who, with what | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for name in names:
        pairs = zip(columns, audits, strict=True)
        found = [column.get(name) or missing(one, name) for column, one in pairs]
        lines.append(f"| {name} | {' | '.join(found)} |")
    return "\n".join(lines)


def missing(one: dict[str, Any], name: str) -> str:
    """Why a row says nothing of a model."""
    if name.startswith("T1 memory, incorrect"):
        return NOTHING
    left_out = {each["attack"]: each["reason"] for each in one["attacks"]["not_run"]}
    impossible = left_out.get(name.split(", ")[1]) == "impossible"
    return NOTHING if impossible else "not run"


def cells(one: dict[str, Any]) -> dict[str, str]:
    """What everybody gets of one model: mIoU, control and stolen value."""
    found, keys = one["findings"], one["findings"]["incorrect"]
    said = {
        "correct key; plain twin": f"{found['correct']['score']:.3f}; "
        f"{found['baseline']['score']:.3f}",
        "files, no key: nothing to run, a constant answer": f"{found['floor']:.3f}",
        "T0 memory, no key": f"{found['no_key']['score']:.3f}",
    }
    if keys:
        title = f"T1 memory, incorrect keys, mean and best of {len(keys['scores'])}"
        said[title] = f"{keys['mean']:.3f}, {keys['maximum']:.3f}"
    for each in one["attacks"]["findings"]:
        images = f", {each['images']} images" if each["images"] else ""
        stolen, control = each["stolen_value"], each["control"]
        value = "–" if stolen is None else f"{stolen:.0%}"
        said[f"{each['rung']} memory, {each['attack']}, {each['variant']}{images}"] = (
            f"{each['score']:.3f} ({value} over {control:.3f})"
        )
    return said


if __name__ == "__main__":
    main()
