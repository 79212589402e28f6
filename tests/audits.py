"""A whole report made by hand, and tiny runs, for the tests of the audit room."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mlguard.audit.attacks import Attack, Scene
from mlguard.audit.findings.attacks import (
    AdversaryImages,
    AttackSection,
    Campaign,
    Control,
    NotRun,
    Outcome,
)
from mlguard.audit.findings.audited import AuditedModel, Machine, Material
from mlguard.audit.findings.bootstrap import find
from mlguard.audit.findings.budgets import Budget
from mlguard.audit.findings.conditions import Measured, NearbyCounts, NearbyPoint
from mlguard.audit.findings.flags import flags_of
from mlguard.audit.findings.numbers import Findings
from mlguard.audit.findings.stolen_value import find_attacks
from mlguard.audit.findings.verdicts import Limit, Verdict, decide, limits_of
from mlguard.audit.log import SCHEMA as LOG_SCHEMA
from mlguard.audit.log import AuditLog, Started, measured_of
from mlguard.audit.measure import measure
from mlguard.audit.report.schema import AuditReport
from mlguard.audit.run import Audit, AuditPlan, Watch
from mlguard.audit.run import audit as run_audit
from mlguard.audit.target import AuditTransforms, Subject, Target, target_of_run
from mlguard.keys import ModelKey
from mlguard.protect.run_folder import (
    BASELINE,
    MODEL,
    PROVENANCE,
    Protection,
    Run,
    read_run,
    write_json,
    write_proofs,
    write_setup,
)
from mlguard.recipe import Audit as AuditSettings
from mlguard.recipe import Recipe, parse_recipe
from mlguard.tasks import Segmentation, Task

KEY = ModelKey(bytes(range(32)))
OTHER_KEY = ModelKey(bytes(range(1, 33)))
PROTECTION_ID = bytes(range(16))
SECRET = bytes(range(32))  # of a proof
NAMES = ("sky", "grass", "<tiger>")
TASK = Segmentation(classes=3)

VERDICTS = tuple(
    Verdict(
        claim=claim,
        answer=answer,
        measured=0.5,
        interval=None,
        threshold=0.4,
        source="recipe",
        reasons=reasons,
    )
    for claim, answer, reasons in (
        ("fidelity", "PASS", ()),
        ("random-keys", "FAIL", ()),
        ("key-search", "INCONCLUSIVE", ("few-images",)),
    )
)

LIMITS = limits_of(AuditSettings())

# The least that every attack can be played with.
TINY = Budget(
    search_images=2,
    unlabelled=2,
    guesses=20,
    starts=2,
    labelled=(1, 2),
    steps=2,
    rates=(1e-3,),
    adapter_rates=(1e-2,),
)
PATIENT = dataclasses.replace(
    TINY,
    initial_seeds=3,
    patient_labelled=(1, 4),
    patient_steps=2,
    patient_rates=(1e-3, 1e-2),
)

RECIPE = """
recipe = 1
[data]
kind = "shapes"
class_names = ["background", "sky", "grass", "orange", "plum", "tiger"]
size = [32, 32]
shapes_images = [8, 4, 6]
[transform]
method = "shf"
block_size = 4
[model]
name = "fcn_small"
[train]
epochs = 1
batch = 4
[audit]
incorrect_keys = 3
nearby = [0.25, 0.5]
nearby_keys = 2
batch = 4
"""


def counts(*rows: tuple[int, int, int]) -> np.ndarray:
    """Counts of one image: intersection, predicted and truth of each class."""
    return np.array([rows], dtype=np.int64)


def images(right: float, number: int = 4) -> np.ndarray:
    """Two present classes of 50 pixels each, `right` of them right; one absent."""
    hits = round(50 * right)
    rows = (hits, 50, 50), (hits, 50, 50), (0, 0, 0)
    return np.concatenate([counts(*rows)] * number)


def measured(**changes: object) -> Measured:
    fields = {
        "task": TASK,
        "baseline": images(1.0),
        "correct": images(0.9),
        "no_key": images(0.5),
        "incorrect": [images(0.4), images(0.6)],
        "nearby": [
            NearbyCounts(share=0.5, changed=0.5, counts=[images(0.7), images(0.8)])
        ],
        "same_transform": 0,
    }
    return Measured(**(fields | changes))


def findings(**changes: object) -> Findings:
    return find(measured(**changes), class_names=NAMES, key_space_bits=202.9, seed=0)


def report(**changes: object) -> AuditReport:
    found = findings(**changes)
    flags = flags_of(found)
    return AuditReport(
        schema="mlguard.audit/4",
        created="2026-01-02T03:04:05Z",
        subject=AuditedModel(
            key_id="ab" * 8,
            protection_id=PROTECTION_ID.hex(),
            recipe="demo",
            recipe_sha256="cd" * 32,
            architecture="fcn_small",
            methods=("shf",),
            block_size=4,
            training_seed=7,
            layers=(),
        ),
        material=Material(
            kind="shapes", split="test", fingerprint="ef" * 32, size=(32, 32)
        ),
        seed=0,
        command="mlguard audit RUN --key demo --out REPORT",
        versions={"mlguard": "0.1.0"},
        machine=Machine(
            system="Linux", processor="a CPU", cores=2, threads=1, device="cpu"
        ),
        flags=flags,
        findings=found,
        attacks=None,
        verdicts=decide(LIMITS, found, None, [flag.code for flag in flags]),
    )


def campaign(**changes: object) -> Campaign:
    """Three attacks of known worth, beside a control; correct is 0.9, floor 0.25."""
    fields = {
        "budget": "quick",
        "outcomes": [
            (outcome("hill-climbing", "batch-norm", "T3", right=0.6), 1.5),
            (outcome("known-plaintext", "one pair", "T6", right=0.9), 0.1),
            (outcome("retraining", "everything", "T4", right=0.8, labels=4), 2.0),
            (outcome("retraining", "everything", "T4", right=0.85, labels=16), 2.0),
        ],
        "controls": [control(4, 0.6), control(16, 0.7)],
        "not_run": [
            NotRun(attack="exhaustive", reason="impossible", message="too many keys")
        ],
        "source": AdversaryImages(split="validation", fingerprint="ab" * 32, images=64),
    }
    return Campaign(**(fields | changes))


def outcome(
    attack: str, variant: str, rung: str, *, right: float, labels: int = 0, **more
) -> Outcome:
    fields = {"queries": 100, "converged": True, "images": labels or 16}
    return Outcome(
        attack=attack,
        variant=variant,
        rung=rung,
        labels=labels,
        counts=images(right),
        **(fields | more),
    )


def control(number: int, right: float, **changes: object) -> Control:
    fields = {"ancestor": None, "queries": 100, "converged": True}
    return Control(images=number, scratch=images(right), **(fields | changes))


def attacks(**changes: object) -> AttackSection:
    return find_attacks(campaign(**changes), measured(), seed=0)


def attacked_report(**changes: object) -> AuditReport:
    """A report with attacks, and the verdicts that follow."""
    whole = report()
    section = changes.get("attacks", attacks())
    flags = flags_of(whole.findings, section)
    codes = [flag.code for flag in flags]
    verdicts = decide(LIMITS, whole.findings, section, codes)
    fields = {"attacks": section, "flags": flags, "verdicts": verdicts}
    return dataclasses.replace(whole, **(fields | changes))


def claiming_report() -> AuditReport:
    """A report with attacks, and a claim of each answer."""
    return dataclasses.replace(attacked_report(), verdicts=VERDICTS)


def recipe(*overrides: str) -> Recipe:
    return parse_recipe(RECIPE, name="test", overrides=overrides)


def make_run(
    path: Path, *overrides: str, protected: bool = True, baseline: bool = False
) -> Run:
    """A run folder with an untrained model: the numbers are poor, the way is whole."""
    from mlguard.models import build_model

    spec = recipe(*overrides)
    path.mkdir(parents=True)
    protection = Protection(PROTECTION_ID, KEY.key_id, "acme") if protected else None
    write_setup(path, spec, protection)
    data = {"train_fingerprint": "cd" * 32}
    facts = {"recipe": "test", "data": data, "resumed": []}
    write_json(path / PROVENANCE, facts)
    torch.manual_seed(1)
    model = build_model(spec.model, spec.data.classes)
    save_file(model.state_dict(), path / MODEL)
    if baseline:
        make_run(path / BASELINE, *overrides, protected=False)
    if protection:
        write_proofs(path, protection, KEY)
    return read_run(path)


@dataclass(frozen=True)
class Pairs(torch.utils.data.Dataset):
    """Images and masks given by hand."""

    images: torch.Tensor
    masks: torch.Tensor
    task: Task
    fingerprint: str = "ef" * 32

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[index], self.masks[index]


def run_all(attack: Attack, scene: Scene) -> Iterator[Outcome]:
    """Every outcome of an attack, group by group."""
    for group in attack.variants(scene):
        yield from attack.run(scene, group)


def started(task: Task = TASK, images: int = 4, **changes: object) -> Started:
    """The start of an audit made by hand."""
    whole = report()
    fields = {
        "schema": LOG_SCHEMA,
        "created": whole.created,
        "subject": whole.subject,
        "model_sha256": "12" * 32,
        "baseline_sha256": None,
        "material": whole.material,
        "images": images,
        "task": task.name,
        "ignore_index": task.ignore_index,
        "class_names": tuple(f"class {index}" for index in range(task.classes)),
        "key_space_bits": 202.9,
        "incorrect": 100,
        "same_transform": 0,
        "nearby": (),
        "settings": AuditSettings(),
        "limits": LIMITS,
        "adversary": None,
        "command": whole.command,
        "old_proof": False,
        "trained_on_these": False,
        "shown_by_weights": False,
        "versions": whole.versions,
        "machine": whole.machine,
    }
    return Started(**(fields | changes))


def measured_by(
    protected: Subject,
    baseline: Subject | None,
    dataset: torch.utils.data.Dataset,
    tried: AuditTransforms,
    *,
    batch: int,
    **others: object,
) -> Measured:
    """Count into a log that is thrown away."""
    first = started(
        dataset.task,
        len(dataset),
        settings=AuditSettings(batch=batch),
        incorrect=len(tried.incorrect),
        baseline_sha256=None if baseline is None else "34" * 32,
        same_transform=tried.same_transform,
        nearby=tuple(
            NearbyPoint(share=share, changed=tried.changed(some), number=len(some))
            for share, some in tried.nearby
        ),
    )
    log = AuditLog(first)
    measure(protected, baseline, dataset, tried, log, **others)
    return measured_of(log)


def audit_run(
    run: Run,
    key: ModelKey,
    dataset: torch.utils.data.Dataset,
    *,
    settings: AuditSettings,
    **others: object,
) -> Audit:
    """Audit a run folder on the CPU."""
    target = target_of_run(run, key, settings, torch.device("cpu"))
    return audit_target(target, dataset, settings=settings, **others)


def audit_target(
    target: Target,
    dataset: torch.utils.data.Dataset,
    *,
    settings: AuditSettings,
    log: Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    claims: dict[str, float] | None = None,
    **others: object,
) -> Audit:
    """Audit anything; its claims are the recipe's and the default ones."""
    limits: tuple[Limit, ...] = limits_of(settings, claims)
    plan = AuditPlan(
        target=target, images=dataset, settings=settings, limits=limits, **others
    )
    return run_audit(plan, log, resume=resume, watch=watch)
