"""Findings from the events of an audit alone: no key, no model, no image, no torch."""

from collections.abc import Iterator

import numpy as np

from mlguard.audit.findings import (
    AdversaryImages,
    AttackSection,
    Campaign,
    Findings,
    Measured,
    NearbyCounts,
    find,
    find_attacks,
)
from mlguard.audit.log.events import Attacked, Counted, Ended, Model
from mlguard.audit.log.file import AuditLog
from mlguard.errors import ReportError
from mlguard.tasks import Counts


def findings_of(log: AuditLog) -> Findings:
    """The findings of the first two rungs, from the counts of every condition.

    Raises:
        ReportError: Some images were not counted.
    """
    started = log.started
    return find(
        measured_of(log),
        class_names=started.class_names,
        key_space_bits=started.key_space_bits,
        seed=started.settings.seed,
    )


def attacks_of(log: AuditLog) -> AttackSection | None:
    """What attacks found, from the counts of every outcome; None if none were run.

    Raises:
        ReportError: The audit did not come to its end.
    """
    started = log.started
    ended = next((one for one in log.events if isinstance(one, Ended)), None)
    if ended is None:
        raise ReportError("the audit did not come to its end")
    source = started.adversary
    if ended.budget is None or source is None:
        return None
    names = dict.fromkeys(e.attack for e in log.events if isinstance(e, Attacked))
    controls = log.controls()
    campaign = Campaign(
        ended.budget,
        [outcome for name in names for outcome in log.outcomes(name)],
        [controls[images] for images in sorted(controls)],
        ended.not_run,
        AdversaryImages(source.split, source.fingerprint, source.images),
    )
    return find_attacks(campaign, measured_of(log), seed=started.settings.seed)


def measured_of(log: AuditLog) -> Measured:
    """The counts of every condition, put together again.

    Raises:
        ReportError: Some images were not counted.
    """
    started = log.started
    conditions = iter(_counts(log, "protected"))
    sealed = started.subject.access == "sealed"
    no_key = None if sealed else next(conditions)
    correct = next(conditions)
    tried = 0 if sealed else started.settings.incorrect_keys
    incorrect = [next(conditions) for _ in range(tried)]
    nearby = [
        NearbyCounts(
            share=point.share,
            changed=point.changed,
            counts=[next(conditions) for _ in range(point.number)],
        )
        for point in started.nearby
    ]
    baseline = started.baseline_sha256 is not None
    return Measured(
        task=started.asked,
        baseline=_counts(log, "baseline")[0] if baseline else None,
        correct=correct,
        no_key=no_key,
        incorrect=incorrect,
        nearby=nearby,
        same_transform=started.same_transform,
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
