"""Recompute what an audit measured from its events: without key, model or images."""

from collections.abc import Iterator

import numpy as np

from mlguard.audit.findings import (
    AttackSection,
    Campaign,
    Measured,
    find_attacks,
)
from mlguard.audit.log.events import Counted, Model
from mlguard.audit.log.file import AuditLog
from mlguard.errors import ReportError
from mlguard.tasks import Counts


def attacks_of(log: AuditLog, measured: Measured) -> AttackSection | None:
    """Return the findings of attacks, from their counts; None if none were run.

    Args:
        log: The log of events.
        measured: The counts of the conditions.

    Raises:
        ReportError: The attacks did not finish.
    """
    started = log.started
    budget, source, not_run = started.settings.budget, started.adversary, log.left_out
    if budget == "none" or source is None:
        return None
    if not_run is None:
        raise ReportError("the attacks of the audit did not finish")
    names = dict.fromkeys(one.attack for one in log.attempts)
    controls = log.controls()
    campaign = Campaign(
        budget,
        [outcome for name in names for outcome in log.outcomes(name)],
        [controls[images] for images in sorted(controls)],
        not_run,
        source,
    )
    return find_attacks(campaign, measured, seed=started.settings.seed)


def measured_of(log: AuditLog) -> Measured:
    """Return the counts of every condition, put together again.

    Raises:
        ReportError: Some images were not counted.
    """
    started = log.started
    baseline = started.baseline_sha256 is not None
    return started.conditions.measured(
        _counts(log, "protected"),
        baseline=_counts(log, "baseline")[0] if baseline else None,
        task=started.asked,
    )


def _counts(log: AuditLog, of: Model) -> Counts:
    """Shape: returns (conditions, images, …)."""
    return np.concatenate(list(_parts(log, of)), axis=1)


def _parts(log: AuditLog, of: Model) -> Iterator[Counts]:
    images = 0
    while images < log.started.images:
        part = next(
            (
                one
                for one in log.events
                if isinstance(one, Counted) and (one.of, one.first) == (of, images)
            ),
            None,
        )
        counts = log.counts(of, images, part.images) if part else None
        if part is None or counts is None or images + part.images > log.started.images:
            raise ReportError(f"image {images} was not counted under every condition")
        yield counts
        images += part.images
