"""Run the attacks asked for, with their controls, and say what was not run."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mlguard.audit.attacks.base import Attack, Identity, Scene
from mlguard.audit.attacks.controls import Controls, has_ancestor
from mlguard.audit.attacks.registry import ATTACKS
from mlguard.audit.findings import (
    BUDGETS,
    SEALED,
    AdversaryImages,
    Budget,
    BudgetName,
    Campaign,
    NotRun,
    Outcome,
    share_of,
)
from mlguard.audit.log import Attacked, AttackEnded, AuditLog, Controlled, Event
from mlguard.audit.measure import shared
from mlguard.errors import RunError

NO_ANCESTOR = (
    "the weights that the recipe starts from are not a .safetensors file on this "
    "machine, so the control was trained from scratch only, and stolen values are too "
    "high rather than too low"
)

NEEDS_WEIGHTS = (
    "it needs the weights, and a bundle is run as a black box; audit the run folder"
)
NO_STATISTICS = (
    "the objective batch-norm needs the weights, and a bundle is run as a black box; "
    "entropy stands in for it"
)
NO_CONTROL = (
    "a model trained on the same labelled images without the stolen one needs its "
    "architecture, which a bundle does not name; the floor stands in, so stolen "
    "values with labels are too high rather than too low"
)
Announce = Callable[[str], None]  # the name of what is being run


def check_names(names: Sequence[str]) -> None:
    """Refuse attacks that do not exist.

    Raises:
        RunError: There are none, or one of the names is unknown.
    """
    unknown = sorted(set(names) - set(ATTACKS))
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "none"
        raise RunError(
            f"--attacks: expected some of {', '.join(ATTACKS)}; got {got}",
            hint="separate names with commas; without --attacks all are run",
        )


def pool_size(budget: Budget, trained_on: int = 0) -> int:
    """How many images of its own an adversary needs at most.

    Args:
        budget: What it may spend.
        trained_on: Images that the model was trained on; 0 if that is not known.
    """
    share = share_of(budget.labelled_share, trained_on)
    return max(2 * budget.search_images, budget.unlabelled, share, *budget.labelled)


def run_attacks(
    scene: Scene,
    names: Sequence[str],
    *,
    budget: BudgetName,
    seed: int,
    source: AdversaryImages,
    announce: Announce = lambda name: None,
    log: AuditLog | None = None,
) -> Campaign:
    """Run attacks in the registry's order.

    Args:
        scene: What the adversary has.
        names: Of ATTACKS.
        budget: Its name in BUDGETS.
        seed: Of everything random in the attacks and their controls.
        source: Where the pool comes from, for the report.
        announce: Told what is being run.
        log: What is known already, and where every further outcome goes.

    Raises:
        RunError: One of the names is unknown.
        OutputError: The log cannot be written.
    """
    check_names(names)
    limits = BUDGETS[budget]
    outcomes: list[tuple[Outcome, float]] = []
    not_run: list[NotRun] = []
    for name, kind in ATTACKS.items():
        attack = kind.within(limits, seed=seed)
        left_out = _left_out(attack, scene, asked=name in names)
        if left_out is None:
            announce(name)
            outcomes += _run(attack, scene, log)
            not_run += [_impossible(name, why) for why in attack.left_out(scene)]
            if attack.reads_statistics and scene.access == "black-box":
                not_run.append(_weightless(name, NO_STATISTICS))
        else:
            not_run.append(left_out)
    controls = Controls(scene, limits, seed, log.controls() if log else {})
    labels = sorted({outcome.labels for outcome, _ in outcomes} - {0})
    if labels and scene.access == "black-box":
        not_run.append(_weightless("controls", NO_CONTROL))
        labels = []
    if labels:
        announce("controls")
    _train(controls, labels, log)
    if (
        controls.done
        and scene.public.weights != "none"
        and not has_ancestor(scene.public)
    ):
        not_run.append(_impossible("ancestor-control", NO_ANCESTOR))
    made = [controls.done[labels] for labels in sorted(controls.done)]
    return Campaign(budget, outcomes, made, not_run, source)


def none_run(
    names: Sequence[str], *, budget: BudgetName, source: AdversaryImages
) -> Campaign:
    """The attacks on a sealed model: there is nothing to attack.

    Args:
        names: Of ATTACKS, those that were asked for.
        budget: What was to be spent.
        source: Where the adversary's images come from.

    Raises:
        RunError: One of the names is unknown.
    """
    check_names(names)
    left_out = [
        NotRun(attack=name, reason="sealed", message=SEALED)
        if name in names
        else _not_asked(name)
        for name in ATTACKS
    ]
    return Campaign(budget, [], [], left_out, source)


def _left_out(attack: Attack, scene: Scene, *, asked: bool) -> NotRun | None:
    if not asked:
        return _not_asked(attack.name)
    if attack.needs_weights and scene.access == "black-box":
        return _weightless(attack.name, NEEDS_WEIGHTS)
    why = attack.impossible(scene)
    return _impossible(attack.name, why) if why else None


def _not_asked(name: str) -> NotRun:
    return NotRun(attack=name, reason="not-asked", message="it was not asked for")


def _weightless(name: str, why: str) -> NotRun:
    return NotRun(attack=name, reason="needs-weights", message=why)


def _impossible(name: str, why: str) -> NotRun:
    return NotRun(attack=name, reason="impossible", message=why)


def _run(
    attack: Attack, scene: Scene, log: AuditLog | None
) -> list[tuple[Outcome, float]]:
    """Every outcome with the seconds since the one before it; known ones as known."""
    outcomes = log.outcomes(attack.name) if log else []
    if log is not None and log.attack_ended(attack.name):
        return outcomes
    known = frozenset(_identity(one) for one, _ in outcomes)
    scene = replace(scene, known=known, asked=[])
    for outcome, seconds in _found(attack, scene, log):
        outcomes.append((outcome, seconds))
    if log is not None:
        log.add(AttackEnded(attack=attack.name))
    return outcomes


def _found(
    attack: Attack, scene: Scene, log: AuditLog | None
) -> Iterator[tuple[Outcome, float]]:
    """What is not known yet, found by all processes together."""
    if log is None:
        yield from _timed(attack, scene)
    elif scene.crew.size == 1:
        for outcome, seconds in _timed(attack, scene):
            log.add(Attacked.of(outcome, seconds))
            yield outcome, seconds
    else:
        own = [Attacked.of(one, seconds) for one, seconds in _timed(attack, scene)]
        for event in _in_order(shared(scene.crew, own), scene):
            log.add(event)
            yield event.outcome(log.started), event.seconds


def _timed(attack: Attack, scene: Scene) -> Iterator[tuple[Outcome, float]]:
    since = time.monotonic()
    for outcome in attack.run(scene):
        now = time.monotonic()
        if _identity(outcome) not in scene.known:
            yield outcome, now - since
        since = now


def _in_order(events: Sequence[Event], scene: Scene) -> list[Attacked]:
    """Each outcome once, in the order in which one process alone finds them."""
    places = {identity: place for place, identity in enumerate(scene.asked)}
    found: dict[Identity, Attacked] = {}
    for event in events:
        assert isinstance(event, Attacked)
        found.setdefault((event.variant, event.images, event.labels), event)
    order = sorted(found, key=lambda identity: places.get(identity, len(places)))
    return [found[identity] for identity in order]


def _train(controls: Controls, labels: Sequence[int], log: AuditLog | None) -> None:
    """Train what is not known yet, each process its share."""
    crew = controls.scene.crew
    missing = [number for number in labels if number not in controls.done]
    for start in range(0, len(missing), crew.size):
        some = missing[start : start + crew.size]
        own = some[crew.rank : crew.rank + 1]
        made = [Controlled.of(controls.at(number)) for number in own]
        if log is None:
            continue
        for event in shared(crew, made):
            assert isinstance(event, Controlled)
            controls.done[event.images] = event.control(log.started)
            log.add(event)


def _identity(outcome: Outcome) -> Identity:
    return outcome.variant, outcome.images, outcome.labels
