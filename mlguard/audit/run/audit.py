"""Audit a run or a bundle: the whole way from a model, a key and images to a report.

The modules that need torch are this one, `target.py`, `bundle_target.py`,
`black_box.py`, `describe.py`, `measure.py`, `examples.py` and `attacks`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mlguard import recipe
from mlguard.audit.attacks import (
    Leaks,
    Pool,
    Scene,
    SplitReferee,
    has_ancestor,
    none_run,
    pool_size,
    run_attacks,
)
from mlguard.audit.findings import (
    BUDGETS,
    AdversaryImages,
    AttackSection,
    Findings,
    Flag,
    Measured,
    access_flags,
    attack_flags,
    decide,
    exit_code,
    find,
    find_attacks,
    flags_of,
)
from mlguard.audit.log import AuditLog, Decided, Ended, Source, Started, now, open_log
from mlguard.audit.measure import Progress, measure, tell
from mlguard.audit.report import SCHEMA, AuditReport, Gallery
from mlguard.audit.run.describe import command_of, describe
from mlguard.audit.run.examples import draw_gallery
from mlguard.audit.target import Target, digest, target_of_run
from mlguard.data import LabelledSet
from mlguard.errors import DatasetError
from mlguard.keys import ModelKey
from mlguard.protect.crew import ALONE, Crew
from mlguard.protect.run_folder import Run

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

    dataset: LabelledSet
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
    dataset: LabelledSet,
    *,
    split: str,
    settings: recipe.Audit,
    adversary: Adversary | None = None,
    device: torch.device | None = None,
    examples: int = EXAMPLES,
    progress: Progress | None = None,
    attack_progress: AttackProgress | None = None,
    log: Path | None = None,
    resume: bool = False,
    crew: Crew = ALONE,
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
        log: Where every event is written as it happens; None writes none.
        resume: Go on with what `log` holds, or begin it.
        crew: The processes that share the work; only the first writes `log`.

    Raises:
        WrongKey: The model was protected with another key.
        MalformedRun: The run is a baseline run, or its weights are missing, damaged
            or of another model.
        TamperedRun: The holder of the key did not make this run.
        DatasetError: The images have other classes than the model, or are damaged;
            or the adversary has none, or has the audited ones.
        ReportError: The log is of another audit, or was changed since.
        OutputError: The log cannot be written, or is there already.
    """
    place = device or torch.device("cpu")
    return audit_target(
        target_of_run(run, key, settings, place),
        dataset,
        split=split,
        settings=settings,
        adversary=adversary,
        examples=examples,
        progress=progress,
        attack_progress=attack_progress,
        log=log,
        resume=resume,
        crew=crew,
    )


def audit_target(
    target: Target,
    dataset: LabelledSet,
    *,
    split: str,
    settings: recipe.Audit,
    adversary: Adversary | None = None,
    examples: int = EXAMPLES,
    progress: Progress | None = None,
    attack_progress: AttackProgress | None = None,
    log: Path | None = None,
    resume: bool = False,
    crew: Crew = ALONE,
) -> Audit:
    """Measure what users with and without the key get from a run, or from a bundle.

    Args:
        target: Of `target_of_run` or `target_of_bundle`, with the same settings.
        dataset: As in `audit_run`, and so all of the following.
        split: As in `audit_run`.
        settings: As in `audit_run`.
        adversary: As in `audit_run`.
        examples: As in `audit_run`.
        progress: As in `audit_run`.
        attack_progress: As in `audit_run`.
        log: As in `audit_run`.
        resume: As in `audit_run`.
        crew: As in `audit_run`.

    Raises:
        MalformedRun: The weights are damaged.
        DatasetError: As `audit_run`.
        ReportError: As `audit_run`.
        OutputError: As `audit_run`.
        ProviderError: onnxruntime gave up on a bundle, for want of memory as a rule.
    """
    transforms = target.transforms
    _check_classes(target.data, dataset)
    source = _source(target, dataset, adversary, settings)
    started = describe(
        target, dataset, split=split, settings=settings, adversary=source
    )
    protected, baseline = target.load(), target.load_baseline()
    file = log if crew.first else None
    with open_log(file, target.secret, started, resume=resume) as events:
        tell(crew, events)
        measured = measure(
            protected,
            baseline,
            dataset,
            transforms,
            batch=settings.batch,
            progress=progress,
            log=events,
            crew=crew,
            sealed=target.sealed,
        )
        findings = find(
            measured,
            class_names=started.class_names,
            key_space_bits=started.key_space_bits,
            seed=settings.seed,
        )
        attacks = None
        if adversary is not None and settings.budget != "none":
            attacks = _attack(
                target,
                dataset,
                adversary,
                measured,
                log=events,
                crew=crew,
                watch=attack_progress or (lambda name, done: None),
            )
        report = _report(target, started, findings, attacks)
        _end(events, report)
    gallery = draw_gallery(
        protected,
        baseline,
        dataset,
        transforms,
        measured,
        spec=target.spec,
        class_names=target.data.class_names,
        number=examples,
    )
    return Audit(report, gallery)


def _check_classes(spec: recipe.Data, dataset: LabelledSet) -> None:
    if dataset.task.name != spec.task:
        raise DatasetError(
            f"the model was trained for {spec.task}, the images are labelled for "
            f"{dataset.task.name}"
        )
    if dataset.task.classes != spec.classes:
        raise DatasetError(
            f"the model has {spec.classes} classes, the images have "
            f"{dataset.task.classes}",
            hint="audit a model on images labelled with its own classes",
        )


def _source(
    target: Target,
    dataset: LabelledSet,
    adversary: Adversary | None,
    settings: recipe.Audit,
) -> Source | None:
    """Whose images attacks use, if there are attacks."""
    if settings.budget == "none":
        return None
    if adversary is None:
        raise DatasetError(
            "attacks need images of the adversary's own",
            hint="give `adversary`, or set audit.budget to none",
        )
    own = adversary.dataset
    _check_classes(target.data, own)
    if own.fingerprint == dataset.fingerprint:
        raise DatasetError(
            "the adversary's images are the audited ones: every score would be too high"
        )
    images = min(len(own), pool_size(BUDGETS[settings.budget], target.trained_on))
    given, public = adversary.ancestor, _public(target.model, adversary.ancestor)
    known = public is not None and given is None and has_ancestor(public)
    return Source(
        split=adversary.split,
        fingerprint=own.fingerprint,
        images=images,
        ancestor=None if given is None else digest(given),
        weights=digest(Path(public.weights)) if public and known else None,
    )


def _attack(
    target: Target,
    dataset: LabelledSet,
    adversary: Adversary,
    measured: Measured,
    *,
    log: AuditLog,
    crew: Crew,
    watch: AttackProgress,
) -> AttackSection | None:
    """Run the recipe's attacks on a copy of the model."""
    settings = log.started.settings
    if settings.budget == "none":
        return None
    fingerprint = adversary.dataset.fingerprint
    wanted = pool_size(BUDGETS[settings.budget], target.trained_on)
    if target.sealed:
        number = min(len(adversary.dataset), wanted)
        source = AdversaryImages(adversary.split, fingerprint, number)
        nothing = none_run(settings.attacks, budget=settings.budget, source=source)
        return find_attacks(nothing, measured, seed=settings.seed)
    stolen = target.load()
    stolen.model.to(memory_format=torch.channels_last)
    pool = Pool.draw(adversary.dataset, wanted, seed=settings.seed)
    meter = _Meter(watch)
    scene = Scene(
        stolen=stolen,
        spec=target.spec,
        model=_public(target.model, adversary.ancestor),
        task=dataset.task,
        pool=pool,
        leaks=Leaks(target.transforms.correct),
        trained_on=target.trained_on,
        build=target.build,
        access=target.subject.access,
        referee=SplitReferee(stolen, dataset, settings.batch),
        tick=meter.tick,
        crew=crew,
    )
    campaign = run_attacks(
        scene,
        settings.attacks,
        budget=settings.budget,
        seed=settings.seed,
        source=AdversaryImages(adversary.split, fingerprint, len(pool)),
        announce=meter.announce,
        log=log,
    )
    return find_attacks(campaign, measured, seed=settings.seed)


def _public(spec: recipe.Model | None, ancestor: Path | None) -> recipe.Model | None:
    """The architecture with the weights that the public has."""
    if spec is None or ancestor is None:
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
    target: Target,
    started: Started,
    findings: Findings,
    attacks: AttackSection | None,
) -> AuditReport:
    settings = started.settings
    flags = (
        *access_flags(started.subject.access),
        *_training_images(target, started, findings),
        *_shown_by_weights(target),
        *flags_of(findings),
        *_attack_flags(findings, attacks),
    )
    return AuditReport(
        schema=SCHEMA,
        created=now(),
        subject=started.subject,
        material=started.material,
        seed=settings.seed,
        command=command_of(target, started),
        versions=started.versions,
        machine=started.machine,
        flags=flags,
        findings=findings,
        attacks=attacks,
        verdicts=decide(settings, findings, attacks, [flag.code for flag in flags]),
    )


def _end(log: AuditLog, report: AuditReport) -> None:
    """Write down the end, unless the log knew it when it was taken up."""
    if log.ended:
        return
    attacks, verdicts = report.attacks, report.verdicts
    ended = Ended(
        created=report.created,
        budget=attacks.budget if attacks else None,
        not_run=attacks.not_run if attacks else (),
        exit_code=exit_code(verdicts),
    )
    log.add(*(Decided(verdict=verdict) for verdict in verdicts), ended)


def _attack_flags(findings: Findings, attacks: AttackSection | None) -> Iterator[Flag]:
    if attacks is not None:
        yield from attack_flags(
            attacks,
            floor=findings.floor,
            correct=findings.correct.score,
            score_name=findings.vocabulary.score,
        )


def _training_images(
    target: Target, started: Started, findings: Findings
) -> Iterator[Flag]:
    if target.trained_fingerprint == started.material.fingerprint:
        yield Flag(
            code="training-images",
            message="the model was trained on these images; "
            f"{findings.vocabulary.score} on others is lower",
        )


def _shown_by_weights(target: Target) -> Iterator[Flag]:
    if target.shown_by_weights:
        yield Flag(
            code="key-shown-by-weights",
            message="zeros and equal weights of the stem show what the key does to "
            "images: it is not counted in the key space",
        )
