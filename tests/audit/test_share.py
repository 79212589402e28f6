"""Work shared out among processes: every part is done once, and everyone knows all."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from mlguard.audit.attacks import run_attacks
from mlguard.audit.log.events import Attacked, AttackEnded
from mlguard.audit.log.file import AuditLog
from mlguard.audit.measure.share import dealt, shared, tell
from mlguard.audit.target.transforms import AuditTransforms
from mlguard.protect.crew import ALONE, Crew
from mlguard.recipe import Audit as Settings
from tests.audit.test_log import started
from tests.audit.test_measure import INVERT, KEEP, KEEP_RED, pairs, subject
from tests.audits import measured_by as measure
from tests.audits import outcome
from tests.audits import started as made_start
from tests.planted import Noise, np_transform, scene_of


@dataclass
class Table:
    """Where threads that play processes put down what they have for each other."""

    size: int
    barrier: threading.Barrier = field(init=False)
    parts: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size, timeout=60)


class Player(Crew):
    """A process of a crew, in a thread."""

    def __init__(self, rank: int, table: Table) -> None:
        super().__init__(rank, table.size)
        object.__setattr__(self, "table", table)

    def exchange(self, data: bytes) -> list[bytes]:
        self.table.parts[self.rank] = data
        self.table.barrier.wait()
        found = [self.table.parts[rank] for rank in range(self.size)]
        self.table.barrier.wait()
        return found


def play(size: int, work) -> list:
    """What each of several processes makes of the same work."""
    table = Table(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: work(Player(rank, table)), range(size)))


def attacked(variant: str, images: int) -> Attacked:
    one = outcome("retraining", variant, "T4", right=0.5, labels=images)
    return Attacked.of(one, 1.0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_everyone_has_the_events_of_everyone_in_one_order(size: int) -> None:
    found = play(size, lambda crew: shared(crew, [attacked("a", crew.rank + 1)]))
    assert found == [[attacked("a", rank + 1) for rank in range(size)]] * size


def test_a_process_without_anything_to_say_takes_part() -> None:
    found = play(2, lambda crew: shared(crew, [] if crew.first else [attacked("a", 1)]))
    assert found == [[attacked("a", 1)]] * 2


def test_what_the_first_knows_the_others_are_told() -> None:
    def work(crew: Crew) -> list:
        log = AuditLog(started())
        if crew.first:
            log.add(started(), AttackEnded(attack="retraining"))
        tell(crew, log)
        return log.events

    one, other = play(2, work)
    assert one == other
    assert len(one) == 2


@pytest.mark.parametrize("size", [2, 5])
def test_counts_of_several_processes_are_those_of_one(size: int) -> None:
    tried = AuditTransforms(INVERT, [KEEP], [(0.5, [KEEP_RED])])

    def work(crew: Crew):
        return measure(subject(-1), subject(1), pairs(), tried, batch=1, crew=crew)

    alone = work(ALONE)
    for found in play(size, work):
        assert (found.baseline == alone.baseline).all()
        assert (found.correct == alone.correct).all()
        assert (np.stack(found.incorrect) == np.stack(alone.incorrect)).all()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_piece_of_work_is_dealt_to_exactly_one_process(size: int) -> None:
    work = list("abcdef")
    hands = [list(dealt(Crew(rank, size), work)) for rank in range(size)]
    assert len({len(hand) for hand in hands}) == 1, "all take part in every round"
    rounds = [
        piece for some in zip(*hands, strict=True) for hand in some for piece in hand
    ]
    assert rounds == work, "in the order in which one process alone does it"


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_outcomes_of_several_processes_are_those_of_one(size: int) -> None:
    settings = Settings(budget="quick", attacks=("without-key", "hill-climbing"))

    noise = Noise()  # here: torch's one generator is no toy for several threads

    def work(crew: Crew) -> list:
        scene = scene_of(copy.deepcopy(noise), np_transform(), "np")
        log = AuditLog(made_start(scene.task, 8, settings=settings))
        run_attacks(scene, log, crew=crew)
        return log.events

    alone = but_for_times(work(ALONE))
    assert [but_for_times(found) for found in play(size, work)] == [alone] * size


def but_for_times(events: list) -> list:
    return [
        replace(one, seconds=0.0) if isinstance(one, Attacked) else one
        for one in events
    ]
