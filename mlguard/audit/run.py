"""Audit a run folder: the whole way from a model, a key and images to a report.

The modules that need torch are this one, `measure.py` and `examples.py`.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from mlguard import __version__, recipe
from mlguard.audit.examples import draw_gallery
from mlguard.audit.findings import Findings
from mlguard.audit.flags import flags_of
from mlguard.audit.measure import AuditTransforms, Progress, measure
from mlguard.audit.measure import Subject as Model
from mlguard.audit.pictures import Gallery
from mlguard.audit.report import (
    AuditReport,
    Flag,
    Machine,
    Material,
    Subject,
)
from mlguard.audit.statistics import find
from mlguard.data import SegmentationSet
from mlguard.errors import DatasetError, MalformedRun
from mlguard.keys import ModelKey
from mlguard.protect.provenance import machine, versions
from mlguard.protect.run import Protection, Run
from mlguard.recipe import recipe_sha256
from mlguard.transforms import key_space_bits

EXAMPLES = 4  # images shown with their predictions


@dataclass(frozen=True)
class Audit:
    """What an audit gives: the report, and the pictures of its page."""

    report: AuditReport
    gallery: Gallery


def audit_run(
    run: Run,
    key: ModelKey,
    dataset: SegmentationSet,
    *,
    split: str,
    settings: recipe.Audit,
    device: torch.device | None = None,
    examples: int = EXAMPLES,
    progress: Progress | None = None,
) -> Audit:
    """Measure what users with and without the key get from a model.

    Args:
        run: The protected model; its plain twin is measured too if there is one.
        key: The correct key.
        dataset: Labelled images that the model was not trained on.
        split: What to call them in the report.
        settings: The recipe's [audit] section.
        device: Where to compute; the CPU if None.
        examples: Images to show in the report; 0 keeps every image out of it.
        progress: Called with (predictions done, all predictions).

    Raises:
        WrongKey: The model was protected with another key.
        MalformedRun: The run is a baseline run, or its weights are damaged.
        DatasetError: The images have other classes than the model, or are damaged.
    """
    protection = protection_of(run)
    spec = run.recipe.transform
    subkeys = key.for_model(protection.protection_id)
    transforms = AuditTransforms.derive(run.transform(key), spec, subkeys, settings)
    _check_classes(run.recipe.data.classes, dataset)

    place = device or torch.device("cpu")
    twin = run.baseline()
    protected = Model.load(run, place)
    baseline = None if twin is None else Model.load(twin, place)
    measured = measure(
        protected,
        baseline,
        dataset,
        transforms,
        batch=settings.batch,
        progress=progress,
    )
    findings = find(
        measured,
        class_names=run.recipe.data.class_names,
        key_space_bits=key_space_bits(spec.methods, spec.block_size),
        seed=settings.seed,
    )
    gallery = draw_gallery(
        protected, baseline, dataset, transforms, measured, spec=spec, number=examples
    )
    report = _report(
        run, dataset, findings, split=split, settings=settings, device=place
    )
    return Audit(report, gallery)


def protection_of(run: Run) -> Protection:
    """Which key a run needs.

    Raises:
        MalformedRun: It is a baseline run, which needs none.
    """
    if run.protection is None:
        raise MalformedRun(
            f"{run.path} is a baseline run: there is no key to audit",
            hint="give the run folder that holds it",
        )
    return run.protection


def _check_classes(expected: int, dataset: SegmentationSet) -> None:
    if dataset.classes != expected:
        raise DatasetError(
            f"the model has {expected} classes, the images have {dataset.classes}",
            hint="audit a model on images labelled with its own classes",
        )


def _report(
    run: Run,
    dataset: SegmentationSet,
    findings: Findings,
    *,
    split: str,
    settings: recipe.Audit,
    device: torch.device,
) -> AuditReport:
    return AuditReport(
        schema="mlguard.audit/1",
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        subject=_subject(run),
        material=Material(
            kind=run.recipe.data.kind,
            split=split,
            fingerprint=dataset.fingerprint,
            size=run.recipe.data.size,
        ),
        seed=settings.seed,
        command=_command(run, split, settings),
        versions={"mlguard": __version__, **versions()},
        machine=_machine(device),
        flags=(*_training_images(run, dataset), *flags_of(findings)),
        findings=findings,
    )


def _subject(run: Run) -> Subject:
    protection = protection_of(run)
    return Subject(
        key_id=protection.key_id,
        protection_id=protection.protection_id.hex(),
        recipe=str(run.provenance.get("recipe", "")),
        recipe_sha256=recipe_sha256(run.recipe),
        architecture=run.recipe.model.name,
        methods=run.recipe.transform.methods,
        block_size=run.recipe.transform.block_size,
        training_seed=run.recipe.train.seed,
    )


def _machine(device: torch.device) -> Machine:
    facts = machine(device)
    return Machine(
        system=str(facts["system"]),
        processor=str(facts["processor"]),
        cores=int(facts["cores"]),
        threads=int(facts["threads"]),
        device=str(facts["device"]),
    )


def _command(run: Run, split: str, settings: recipe.Audit) -> str:
    """The command again; RUN, DATA and REPORT stand for the reader's own paths."""
    data = "" if run.recipe.data.kind == "shapes" else " --data DATA"
    return (
        f"mlguard audit RUN --key {shlex.quote(protection_of(run).key_name)}{data} "
        f"--split {split} --incorrect-keys {settings.incorrect_keys} "
        f"--seed {settings.seed} --out REPORT"
    )


def _training_images(run: Run, dataset: SegmentationSet) -> Iterator[Flag]:
    trained_on = run.provenance.get("data", {}).get("train_fingerprint")
    if trained_on == dataset.fingerprint:
        yield Flag(
            code="training-images",
            message="the model was trained on these images; mIoU on others is lower",
        )
