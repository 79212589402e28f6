"""What is audited and where, in words that a log and a report share. Needs torch."""

import shlex

from mlguard import __version__, recipe
from mlguard.audit.findings import Machine, Material
from mlguard.audit.log import SCHEMA, NearbyPoint, Source, Started, now
from mlguard.audit.target import Target
from mlguard.data import LabelledSet
from mlguard.protect.run_folder import machine, versions


def describe(
    target: Target,
    dataset: LabelledSet,
    *,
    split: str,
    settings: recipe.Audit,
    adversary: Source | None,
) -> Started:
    """The first event of an audit: everything that its findings follow from.

    Args:
        target: The protected model, and what every key does; of that, only how far
            they are apart is told.
        dataset: The audited images.
        split: What to call the images.
        settings: The recipe's [audit] section, as options changed it.
        adversary: Whose images attacks use; None if there are none.

    Raises:
        DatasetError: An image is damaged.
    """
    transforms = target.transforms
    return Started(
        schema=SCHEMA,
        created=now(),
        subject=target.subject,
        model_sha256=target.model_sha256,
        baseline_sha256=target.baseline_sha256,
        material=Material(
            kind=target.data.kind,
            split=split,
            fingerprint=dataset.fingerprint,
            size=target.data.size,
        ),
        images=len(dataset),
        task=dataset.task.name,
        ignore_index=dataset.task.ignore_index,
        class_names=target.data.class_names,
        key_space_bits=target.key_space_bits,
        same_transform=transforms.same_transform,
        nearby=tuple(
            NearbyPoint(share=share, changed=transforms.changed(some), number=len(some))
            for share, some in transforms.nearby
        ),
        settings=settings,
        adversary=adversary,
        versions={"mlguard": __version__, **versions()},
        machine=_machine(target),
    )


def command_of(target: Target, started: Started) -> str:
    """The command again; words in capitals stand for the reader's own paths."""
    settings, source = started.settings, started.adversary
    public = " --ancestor ANCESTOR" if source and source.ancestor else ""
    data = "" if target.data.kind == "shapes" else " --data DATA"
    return (
        f"{shlex.join(target.words)}{data} "
        f"--split {started.material.split} --incorrect-keys {settings.incorrect_keys} "
        f"--seed {settings.seed}{_attack_options(settings)}{public} --out REPORT"
    )


def _attack_options(settings: recipe.Audit) -> str:
    if settings.budget == "none":
        return ""
    chosen = settings.attacks != recipe.BY_DEFAULT
    names = f" --attacks {','.join(settings.attacks)}" if chosen else ""
    return f" --budget {settings.budget}{names}"


def _machine(target: Target) -> Machine:
    facts = machine(target.device)
    return Machine(
        system=str(facts["system"]),
        processor=str(facts["processor"]),
        cores=int(facts["cores"]),
        threads=int(facts["threads"]),
        device=target.processor or str(facts["device"]),
    )
