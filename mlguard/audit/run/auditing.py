"""Audit a run or a bundle: the whole way from a plan to a report.

All measurements go into the log, and the report is made from the log alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from mlguard.audit.attacks import (
    Leaks,
    Pool,
    Scene,
    SplitReferee,
    none_run,
    run_attacks,
)
from mlguard.audit.findings import exit_code
from mlguard.audit.log import AuditLog, Decided, Ended, LeftOut, now, open_log
from mlguard.audit.measure import measure, tell
from mlguard.audit.report import AuditReport, Gallery, conclude, report_of
from mlguard.audit.run.describe import describe
from mlguard.audit.run.examples import draw_gallery
from mlguard.audit.run.plan import Adversary, AuditPlan
from mlguard.audit.target import Subject

# Of all predictions together: below, it takes longer to export a graph than it saves.
MANY_PIXELS = 1 << 26


class Watch(Protocol):
    """A watcher of the progress of an audit."""

    def predicting(self, done: int, total: int) -> None:
        """Called with the predictions done and all predictions."""

    def attacking(self, name: str, done: int) -> None:
        """Called with the predictions of an attack so far."""


class _Silent:
    """A watcher that ignores everything."""

    def predicting(self, done: int, total: int) -> None:
        return

    def attacking(self, name: str, done: int) -> None:
        return


@dataclass(frozen=True)
class Audit:
    """The result of an audit: the report, and the pictures of its page."""

    report: AuditReport
    gallery: Gallery


def audit(
    plan: AuditPlan,
    log: Path | None = None,
    *,
    resume: bool = False,
    watch: Watch | None = None,
) -> Audit:
    """Measure what users with and without the key get from a model.

    Args:
        plan: The plan of the audit.
        log: Where to write every event as it happens; None to write none.
        resume: Resume the audit in `log`, or begin it.
        watch: Called with its progress.

    Raises:
        MalformedRun: The weights are damaged.
        DatasetError: The images have other classes than the model, or are damaged; or
            the adversary has no images, or the audited ones.
        ReportError: The log belongs to another audit, or was changed since.
        OutputError: The log cannot be written, or already exists.
        ProviderError: onnxruntime failed on a bundle, usually for lack of memory.
    """
    plan.check()
    target, watch = plan.target, watch or _Silent()
    protected, baseline = target.load(), target.load_baseline()
    if plan.pixels >= MANY_PIXELS:
        protected = protected.in_graph(target.spec, target.data.size)
    started = describe(plan, protected.engine)
    file = log if plan.crew.first else None
    with open_log(file, target.secret, started, resume=resume) as events:
        tell(plan.crew, events)
        measure(
            protected,
            baseline,
            plan.images,
            target.transforms,
            events,
            progress=watch.predicting,
            crew=plan.crew,
        )
        if plan.adversary is not None and plan.budget is not None:
            _attack(plan, plan.adversary, protected, events, watch)
        conclusion = conclude(events)
        if events.ended is None:
            verdicts = conclusion.verdicts
            decided = (Decided(verdict=verdict) for verdict in verdicts)
            status = exit_code(verdicts)
            events.add(*decided, Ended(created=now(), exit_code=status))
        report = report_of(events, conclusion)
    gallery = draw_gallery(protected, baseline, plan, conclusion.measured)
    return Audit(report, gallery)


def _attack(
    plan: AuditPlan,
    adversary: Adversary,
    protected: Subject,
    log: AuditLog,
    watch: Watch,
) -> None:
    """Run the plan's attacks on a copy of the model; of a split one on its host's."""
    target, settings = plan.target, plan.settings
    if target.sealed:
        if log.left_out is None:
            log.add(LeftOut(not_run=none_run(settings.attacks)))
        return
    stolen = target.load()
    if target.spec.splits:
        stolen = stolen.of_host(seed=settings.seed)
    else:
        stolen = replace(stolen, graph=protected.graph)
    stolen.model.to(memory_format=torch.channels_last)
    meter = _Meter(watch)
    scene = Scene(
        stolen=stolen,
        spec=target.spec,
        model=plan.public,
        task=plan.images.task,
        pool=Pool.draw(adversary.dataset, plan.pool, seed=settings.seed),
        leaks=Leaks(target.transforms.correct),
        trained_on=target.trained_on,
        build=target.build,
        access=target.subject.access,
        referee=SplitReferee(stolen, plan.images, settings.batch),
        tick=meter.tick,
    )
    run_attacks(scene, log, crew=plan.crew, announce=meter.announce)


class _Meter:
    """A counter of the predictions of each attack."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._name, self._done = watch, "", 0

    def announce(self, name: str) -> None:
        self._name, self._done = name, 0
        self._watch.attacking(name, 0)

    def tick(self, work: int) -> None:
        self._done += work
        self._watch.attacking(self._name, self._done)
