"""What is audited and where, in words that a log and a report share. Needs torch."""

import hashlib
import shlex
from pathlib import Path

import torch

from mlguard import __version__, recipe
from mlguard.audit.events import SCHEMA, NearbyPoint, Source, Started
from mlguard.audit.log import now
from mlguard.audit.measure import AuditTransforms
from mlguard.audit.report import Machine, Material, Subject
from mlguard.data import LabelledSet
from mlguard.errors import MalformedRun
from mlguard.protect.provenance import machine, versions
from mlguard.protect.run import MODEL, Protection, Run
from mlguard.recipe import recipe_sha256
from mlguard.transforms import TransformSet


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


def describe(
    run: Run,
    dataset: LabelledSet,
    transforms: AuditTransforms,
    *,
    split: str,
    settings: recipe.Audit,
    adversary: Source | None,
    device: torch.device,
) -> Started:
    """The first event of an audit: everything that its findings follow from.

    Args:
        run: The protected model.
        dataset: The audited images.
        transforms: What every key does; only how far they are apart is told.
        split: What to call the images.
        settings: The recipe's [audit] section, as options changed it.
        adversary: Whose images attacks use; None if there are none.
        device: Where to compute.

    Raises:
        DatasetError: An image is damaged.
        MalformedRun: The weights are missing.
    """
    twin = run.baseline()
    return Started(
        schema=SCHEMA,
        created=now(),
        subject=_subject(run),
        model_sha256=digest(run.path / MODEL),
        baseline_sha256=None if twin is None else digest(twin.path / MODEL),
        material=Material(
            kind=run.recipe.data.kind,
            split=split,
            fingerprint=dataset.fingerprint,
            size=run.recipe.data.size,
        ),
        images=len(dataset),
        task=dataset.task.name,
        ignore_index=dataset.task.ignore_index,
        class_names=run.recipe.data.class_names,
        key_space_bits=_key_space(run, transforms.correct),
        same_transform=transforms.same_transform,
        nearby=tuple(
            NearbyPoint(share=share, changed=transforms.changed(some), number=len(some))
            for share, some in transforms.nearby
        ),
        settings=settings,
        adversary=adversary,
        versions={"mlguard": __version__, **versions()},
        machine=_machine(device),
    )


def command_of(run: Run, started: Started) -> str:
    """The command again; words in capitals stand for the reader's own paths."""
    settings, source = started.settings, started.adversary
    public = " --ancestor ANCESTOR" if source and source.ancestor else ""
    data = "" if run.recipe.data.kind == "shapes" else " --data DATA"
    return (
        f"mlguard audit RUN --key {shlex.quote(protection_of(run).key_name)}{data} "
        f"--split {started.material.split} --incorrect-keys {settings.incorrect_keys} "
        f"--seed {settings.seed}{_attack_options(settings)}{public} --out REPORT"
    )


def _attack_options(settings: recipe.Audit) -> str:
    if settings.budget == "none":
        return ""
    chosen = settings.attacks != recipe.ALL_ATTACKS
    names = f" --attacks {','.join(settings.attacks)}" if chosen else ""
    return f" --budget {settings.budget}{names}"


def _key_space(run: Run, correct: TransformSet) -> float:
    """Bits that someone who has the weights does not read off them."""
    return correct.channel_bits if run.shown_by_weights else correct.key_space_bits


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


def digest(path: Path) -> str:
    """SHA-256 of a file of weights.

    Raises:
        MalformedRun: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror}") from None
