"""Describe an audit in its first event: everything that its findings follow from."""

import shlex

from mlguard import __version__, recipe
from mlguard.audit.findings import Engine, Limit, Machine, Material, NearbyPoint
from mlguard.audit.log import SCHEMA, Started, now
from mlguard.audit.run.plan import AuditPlan
from mlguard.audit.target import Target
from mlguard.protect.run_folder import machine, versions


def describe(plan: AuditPlan, engine: Engine) -> Started:
    """Return what is audited and how; it shows only how far keys are apart.

    Args:
        plan: What is to be done.
        engine: What runs the protected model.

    Raises:
        DatasetError: An image is damaged.
        MalformedRun: A weights file cannot be read.
    """
    target, images = plan.target, plan.images
    transforms = target.transforms
    return Started(
        schema=SCHEMA,
        created=now(),
        subject=target.subject,
        model_sha256=target.model_sha256,
        baseline_sha256=target.baseline_sha256,
        material=Material(
            kind=target.data.kind,
            split=plan.split,
            fingerprint=images.fingerprint,
            size=target.data.size,
        ),
        images=len(images),
        task=images.task.name,
        ignore_index=images.task.ignore_index,
        class_names=target.data.class_names,
        key_space_bits=target.key_space_bits,
        incorrect=len(transforms.incorrect),
        same_transform=transforms.same_transform,
        nearby=tuple(
            NearbyPoint(share=share, changed=transforms.changed(some), number=len(some))
            for share, some in transforms.nearby
        ),
        settings=plan.settings,
        limits=plan.limits,
        adversary=plan.source(),
        command=_command(plan),
        old_proof=target.old_proof,
        trained_on_these=target.trained_fingerprint == images.fingerprint,
        shown_by_weights=target.shown_by_weights,
        versions={"mlguard": __version__, **versions()},
        machine=_machine(target, engine),
    )


def _command(plan: AuditPlan) -> str:
    """Return the command; words in capitals stand for the reader's own paths."""
    settings = plan.settings
    given = plan.budget is not None and plan.adversary and plan.adversary.ancestor
    public = " --ancestor ANCESTOR" if given else ""
    data = "" if plan.target.data.kind == "shapes" else " --data DATA"
    return (
        f"{shlex.join(plan.target.words)}{data} "
        f"--split {plan.split} --incorrect-keys {settings.incorrect_keys} "
        f"--seed {settings.seed}{_attack_options(settings)}{public}"
        f"{_claim_options(plan.limits)} --out REPORT"
    )


def _attack_options(settings: recipe.Audit) -> str:
    if settings.budget == "none":
        return ""
    chosen = settings.attacks != recipe.BY_DEFAULT
    names = f" --attacks {','.join(settings.attacks)}" if chosen else ""
    return f" --budget {settings.budget}{names}"


def _claim_options(limits: tuple[Limit, ...]) -> str:
    given = [limit for limit in limits if limit.source == "option"]
    return "".join(f" --claim {one.claim}={one.threshold:g}" for one in given)


def _machine(target: Target, engine: Engine) -> Machine:
    facts = machine(target.device)
    return Machine(
        system=str(facts["system"]),
        processor=str(facts["processor"]),
        cores=int(facts["cores"]),
        threads=int(facts["threads"]),
        device=target.processor or str(facts["device"]),
        engine=engine,
    )
