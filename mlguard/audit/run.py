"""Audit a run folder: the whole way from a model, a key and images to a report.

The modules that need torch are this one, `measure.py`, `examples.py` and `attacks`.
"""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from mlguard import __version__, recipe
from mlguard.audit.attack_findings import AttackSection
from mlguard.audit.attack_flags import attack_flags
from mlguard.audit.attack_statistics import find_attacks
from mlguard.audit.attacks.base import Pool, Scene, SplitReferee
from mlguard.audit.attacks.campaign import pool_size, run_attacks
from mlguard.audit.attacks.leaks import Leaks
from mlguard.audit.budgets import BUDGETS
from mlguard.audit.examples import draw_gallery
from mlguard.audit.findings import Findings
from mlguard.audit.flags import flags_of
from mlguard.audit.measure import AuditTransforms, Progress, measure
from mlguard.audit.measure import Subject as Model
from mlguard.audit.outcomes import AdversaryImages
from mlguard.audit.pictures import Gallery
from mlguard.audit.report import (
    SCHEMA,
    AuditReport,
    Flag,
    Machine,
    Material,
    Subject,
)
from mlguard.audit.statistics import Measured, find
from mlguard.audit.verdicts import decide
from mlguard.data import SegmentationSet
from mlguard.errors import DatasetError, MalformedRun
from mlguard.keys import ModelKey
from mlguard.protect.provenance import machine, versions
from mlguard.protect.run import Protection, Run
from mlguard.recipe import recipe_sha256
from mlguard.transforms import TransformSet

EXAMPLES = 4  # images shown with their predictions

AttackProgress = Callable[[str, int], None]  # what is run, predictions so far


@dataclass(frozen=True)
class Adversary:
    """The images that attacks may use.

    Attributes:
        dataset: Labelled images of the same kind as those audited, and others.
        split: What to call them in the report.
        ancestor: Public weights of the same architecture, a .safetensors file; None
            where there are only those that the recipe starts from.
    """

    dataset: SegmentationSet
    split: str
    ancestor: Path | None = None


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
    adversary: Adversary | None = None,
    device: torch.device | None = None,
    examples: int = EXAMPLES,
    progress: Progress | None = None,
    attack_progress: AttackProgress | None = None,
) -> Audit:
    """Measure what users with and without the key get from a model.

    Args:
        run: The protected model; its plain twin is measured too if there is one.
        key: The correct key.
        dataset: Labelled images that the model was not trained on.
        split: What to call them in the report.
        settings: The recipe's [audit] section.
        adversary: The images of whoever attacks; needed if there is a budget.
        device: Where to compute; the CPU if None.
        examples: Images to show in the report; 0 keeps every image out of it.
        progress: Called with (predictions done, all predictions).
        attack_progress: Called with (attack, predictions it asked for so far).

    Raises:
        WrongKey: The model was protected with another key.
        MalformedRun: The run is a baseline run, or its weights are damaged.
        DatasetError: The images have other classes than the model, or are damaged;
            or the adversary has none, or has the audited ones.
    """
    protection = protection_of(run)
    spec = run.recipe.transform
    subkeys = key.for_model(protection.protection_id)
    transforms = AuditTransforms.derive(
        run.transform(key), run.derive, subkeys, settings
    )
    _check_classes(run.recipe.data.classes, dataset)
    if settings.budget != "none":
        _check_adversary(run.recipe.data.classes, dataset, adversary)

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
        key_space_bits=transforms.correct.key_space_bits,
        seed=settings.seed,
    )
    attacks = None
    if adversary is not None and settings.budget != "none":
        attacks = _attack(
            run,
            transforms.correct,
            dataset,
            adversary,
            measured,
            settings=settings,
            device=place,
            watch=attack_progress or (lambda name, done: None),
        )
    gallery = draw_gallery(
        protected, baseline, dataset, transforms, measured, spec=spec, number=examples
    )
    report = _report(
        run,
        dataset,
        findings,
        attacks,
        split=split,
        settings=settings,
        device=place,
        ancestor=adversary is not None and adversary.ancestor is not None,
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
    if dataset.task.classes != expected:
        raise DatasetError(
            f"the model has {expected} classes, the images have {dataset.task.classes}",
            hint="audit a model on images labelled with its own classes",
        )


def _check_adversary(
    classes: int, dataset: SegmentationSet, adversary: Adversary | None
) -> None:
    if adversary is None:
        raise DatasetError(
            "attacks need images of the adversary's own",
            hint="give `adversary`, or set audit.budget to none",
        )
    _check_classes(classes, adversary.dataset)
    if adversary.dataset.fingerprint == dataset.fingerprint:
        raise DatasetError(
            "the adversary's images are the audited ones: every score would be too high"
        )


def _attack(
    run: Run,
    correct: TransformSet,
    dataset: SegmentationSet,
    adversary: Adversary,
    measured: Measured,
    *,
    settings: recipe.Audit,
    device: torch.device,
    watch: AttackProgress,
) -> AttackSection | None:
    """Run the recipe's attacks on a copy of the model."""
    if settings.budget == "none":
        return None
    stolen = Model.load(run, device)
    stolen.model.to(memory_format=torch.channels_last)
    wanted = pool_size(BUDGETS[settings.budget])
    pool = Pool.draw(adversary.dataset, wanted, seed=settings.seed)
    meter = _Meter(watch)
    scene = Scene(
        stolen=stolen,
        spec=run.recipe.transform,
        model=_public(run.recipe.model, adversary.ancestor),
        task=dataset.task,
        pool=pool,
        leaks=Leaks(correct),
        build=run.build,
        referee=SplitReferee(stolen, dataset, settings.batch),
        tick=meter.tick,
    )
    campaign = run_attacks(
        scene,
        settings.attacks,
        budget=settings.budget,
        seed=settings.seed,
        source=AdversaryImages(
            adversary.split, adversary.dataset.fingerprint, len(pool)
        ),
        announce=meter.announce,
    )
    return find_attacks(campaign, measured, seed=settings.seed)


def _public(spec: recipe.Model, ancestor: Path | None) -> recipe.Model:
    """The architecture with the weights that the public has."""
    if ancestor is None:
        return spec
    return spec.model_copy(update={"weights": str(ancestor)})


class _Meter:
    """Counts the predictions of each attack."""

    def __init__(self, watch: AttackProgress) -> None:
        self._watch, self._name, self._done = watch, "", 0

    def announce(self, name: str) -> None:
        self._name, self._done = name, 0
        self._watch(name, 0)

    def tick(self, work: int) -> None:
        self._done += work
        self._watch(self._name, self._done)


def _report(
    run: Run,
    dataset: SegmentationSet,
    findings: Findings,
    attacks: AttackSection | None,
    *,
    split: str,
    settings: recipe.Audit,
    device: torch.device,
    ancestor: bool,
) -> AuditReport:
    flags = (
        *_training_images(run, dataset, findings),
        *flags_of(findings),
        *_attack_flags(findings, attacks),
    )
    return AuditReport(
        schema=SCHEMA,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        subject=_subject(run),
        material=Material(
            kind=run.recipe.data.kind,
            split=split,
            fingerprint=dataset.fingerprint,
            size=run.recipe.data.size,
        ),
        seed=settings.seed,
        command=_command(run, split, settings, ancestor=ancestor),
        versions={"mlguard": __version__, **versions()},
        machine=_machine(device),
        flags=flags,
        findings=findings,
        attacks=attacks,
        verdicts=decide(settings, findings, attacks, [flag.code for flag in flags]),
    )


def _attack_flags(findings: Findings, attacks: AttackSection | None) -> Iterator[Flag]:
    if attacks is not None:
        yield from attack_flags(
            attacks,
            floor=findings.floor,
            correct=findings.correct.score,
            score_name=findings.vocabulary.score,
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
        block_size=run.recipe.transform.image_block_size,
        layers=run.recipe.transform.layers,
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


def _command(run: Run, split: str, settings: recipe.Audit, *, ancestor: bool) -> str:
    """The command again; words in capitals stand for the reader's own paths."""
    public = " --ancestor ANCESTOR" if ancestor else ""
    data = "" if run.recipe.data.kind == "shapes" else " --data DATA"
    return (
        f"mlguard audit RUN --key {shlex.quote(protection_of(run).key_name)}{data} "
        f"--split {split} --incorrect-keys {settings.incorrect_keys} "
        f"--seed {settings.seed}{_attack_options(settings)}{public} --out REPORT"
    )


def _attack_options(settings: recipe.Audit) -> str:
    if settings.budget == "none":
        return ""
    chosen = settings.attacks != recipe.ALL_ATTACKS
    names = f" --attacks {','.join(settings.attacks)}" if chosen else ""
    return f" --budget {settings.budget}{names}"


def _training_images(
    run: Run, dataset: SegmentationSet, findings: Findings
) -> Iterator[Flag]:
    trained_on = run.provenance.get("data", {}).get("train_fingerprint")
    if trained_on == dataset.fingerprint:
        yield Flag(
            code="training-images",
            message="the model was trained on these images; "
            f"{findings.vocabulary.score} on others is lower",
        )
