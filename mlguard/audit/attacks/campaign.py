"""Run the requested attacks with their controls, and list what did not run."""

import time
from collections.abc import Callable, Iterator, Sequence

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.controls import Controls, has_ancestor
from mlguard.audit.attacks.patient_retraining import PatientRetraining
from mlguard.audit.attacks.registry import ATTACKS
from mlguard.audit.findings import (
    BUDGETS,
    SEALED,
    Budget,
    NotRun,
    share_of,
)
from mlguard.audit.log import Attacked, AttackEnded, AuditLog, Controlled, LeftOut
from mlguard.audit.measure import dealt, shared
from mlguard.errors import RunError
from mlguard.nearest import did_you_mean
from mlguard.protect.crew import ALONE, Crew

NO_ANCESTOR = (
    "the recipe's initial weights are not a .safetensors file on this machine, so the "
    "control was trained only from scratch, and stolen values are too high rather "
    "than too low"
)

NEEDS_WEIGHTS = (
    "it needs the weights, but a bundle is run as a black box; audit the run folder"
)
NO_STATISTICS = (
    "the objective batch-norm needs the weights, but a bundle is run as a black box; "
    "entropy replaces it"
)
NO_CONTROL = (
    "a model trained on the same labelled images without the stolen weights needs the "
    "architecture, which a bundle does not name; the floor replaces this control, so "
    "stolen values with labels are too high rather than too low"
)
MAX_GUESSES = 3  # misspelt attacks whose nearest name is said
Announce = Callable[[str], None]  # called with the name of what is being run


def check_names(names: Sequence[str]) -> None:
    """Refuse attacks that do not exist.

    Raises:
        RunError: There are none, or a name is unknown.
    """
    unknown = sorted(set(names) - set(ATTACKS))
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "none"
        near = "".join(did_you_mean(name, ATTACKS) for name in unknown[:MAX_GUESSES])
        raise RunError(
            f"--attacks: expected some of {', '.join(ATTACKS)}; got {got}{near}",
            hint="separate names with commas; without --attacks, all are run",
        )


def pool_size(budget: Budget, trained_on: int = 0) -> int:
    """Return how many images of its own an adversary needs at most.

    Args:
        budget: The budget of the attacks.
        trained_on: How many images the model was trained on; 0 if unknown.
    """
    share = share_of(budget.labelled_share, trained_on)
    patient = budget.patient_labelled if budget.patient_steps else ()
    labelled = (*budget.labelled, *patient)
    return max(2 * budget.search_images, budget.unlabelled, share, *labelled)


def run_attacks(
    scene: Scene,
    log: AuditLog,
    *,
    crew: Crew = ALONE,
    announce: Announce = lambda name: None,
) -> None:
    """Run the attacks of an audit in the registry's order, then their controls.

    Args:
        scene: The scene of the adversary.
        log: The requested attacks, the outcomes so far, and the place for new ones.
        crew: The processes that share the work; each gets all outcomes.
        announce: Called with the name of what is being run.

    Raises:
        RunError: A name is unknown.
        OutputError: The log cannot be written.
    """
    settings = log.started.settings
    assert settings.budget != "none"
    limits = BUDGETS[settings.budget]
    check_names(settings.attacks)
    not_run: list[NotRun] = []
    for name, kind in ATTACKS.items():
        attack = kind.within(limits, seed=settings.seed)
        left_out = _left_out(attack, scene, asked=name in settings.attacks)
        if left_out is not None:
            not_run.append(left_out)
            continue
        announce(name)
        if not log.attack_ended(name):
            _run(attack, scene, log, crew)
        not_run += [_impossible(name, why) for why in attack.left_out(scene)]
        if attack.reads_statistics and scene.access == "black-box":
            not_run.append(_weightless(name, NO_STATISTICS))
    not_run += _train_controls(scene, limits, log, crew, announce)
    if log.left_out is None:
        log.add(LeftOut(not_run=tuple(not_run)))


def none_run(names: Sequence[str]) -> tuple[NotRun, ...]:
    """Return the campaign on a sealed model: there is nothing to attack.

    Args:
        names: The requested names of ATTACKS.

    Raises:
        RunError: A name is unknown.
    """
    check_names(names)
    return tuple(
        NotRun(attack=name, reason="sealed", message=SEALED)
        if name in names
        else _not_asked(name)
        for name in ATTACKS
    )


def _left_out(attack: Attack, scene: Scene, *, asked: bool) -> NotRun | None:
    if not asked:
        return _not_asked(attack.name)
    if attack.needs_weights and scene.access == "black-box":
        return _weightless(attack.name, NEEDS_WEIGHTS)
    why = attack.impossible(scene)
    return _impossible(attack.name, why) if why else None


def _not_asked(name: str) -> NotRun:
    return NotRun(attack=name, reason="not-asked", message="it was not requested")


def _weightless(name: str, why: str) -> NotRun:
    return NotRun(attack=name, reason="needs-weights", message=why)


def _impossible(name: str, why: str) -> NotRun:
    return NotRun(attack=name, reason="impossible", message=why)


def _run(attack: Attack, scene: Scene, log: AuditLog, crew: Crew) -> None:
    """Find the outcomes missing in the log; several processes share the groups."""
    known = {Variant.of(one) for one in log.attempts if one.attack == attack.name}
    missing = [
        left
        for group in attack.variants(scene)
        if (left := tuple(one for one in group if one not in known))
    ]
    for own in dealt(crew, missing):
        found = [one for group in own for one in _timed(attack, scene, group)]
        log.add(*shared(crew, found))
    log.add(AttackEnded(attack=attack.name))


def _timed(attack: Attack, scene: Scene, group: Group) -> Iterator[Attacked]:
    """Yield every outcome with the seconds since the previous one."""
    since = time.monotonic()
    for outcome in attack.run(scene, group):
        now = time.monotonic()
        yield Attacked.of(outcome, now - since)
        since = now


def _train_controls(
    scene: Scene, limits: Budget, log: AuditLog, crew: Crew, announce: Announce
) -> list[NotRun]:
    """Train the missing controls, and list those that are impossible."""
    labels = sorted({one.labels for one in log.attempts} - {0})
    if not labels:
        return []
    if scene.access == "black-box":
        return [_weightless("controls", NO_CONTROL)]
    announce("controls")
    patient = any(one.attack == PatientRetraining.name for one in log.attempts)
    controls = Controls(scene, limits, log.started.settings.seed, patient)
    known = log.controls()
    missing = [number for number in labels if number not in known]
    for own in dealt(crew, missing):
        made = [controls.at(number) for number in own]
        log.add(*shared(crew, [Controlled.of(one) for one in made]))
    start = scene.public
    if start.weights != "none" and not has_ancestor(start):
        return [_impossible("ancestor-control", NO_ANCESTOR)]
    return []
