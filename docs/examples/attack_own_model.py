"""Attack a model of your own: train a small one under `shf`, and steal it.

    python docs/examples/attack_own_model.py

The model is far too small to mean anything; the calls are those for a real one.
"""

from dataclasses import replace
from pathlib import Path

import torch

from mlguard.audit import report_folder, write_report
from mlguard.audit.findings import limits_of
from mlguard.audit.run import Adversary, AuditPlan, audit
from mlguard.audit.target import target_of_run
from mlguard.data import open_split
from mlguard.keys import ModelKey
from mlguard.protect import DataFolder, Job
from mlguard.recipe import read_recipe

recipe = read_recipe(
    "demo",
    overrides=[
        "data.size=[32, 32]",
        "data.shapes_images=[32, 8, 8]",
        "train.epochs=2",
        "train.batch=8",
        "audit.incorrect_keys=5",
        "audit.budget=quick",
        'audit.attacks=["known-plaintext", "transformed-images"]',
    ],
)
key = ModelKey.generate()
job = Job(Path("attacked"), recipe, DataFolder(None), device="cpu")
run = job.protect(key, key_name="acme")
replace(job, path=run.path / "baseline").train_baseline(key)  # the plain twin

own, test = (
    open_split(recipe.data, None, split, seed=recipe.train.seed)
    for split in ("validation", "test")
)
target = target_of_run(run, key, recipe.audit, torch.device("cpu"))
plan = AuditPlan(
    target=target,
    images=test,
    split="test",
    settings=recipe.audit,
    limits=limits_of(recipe.audit),
    adversary=Adversary(own, "validation"),
)
found = audit(plan)
for finding in found.report.attacks.findings:
    print(f"{finding.attack}, {finding.variant}: {finding.score:.3f} mIoU")
for verdict in found.report.verdicts:
    print(verdict.claim, verdict.answer, *verdict.reasons)
with report_folder(Path("report")) as folder:
    write_report(folder, found.report, found.gallery, secret=target.proof_secret)
