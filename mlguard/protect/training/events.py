"""The events that a watcher of a training receives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """The progress within an epoch, sent now and then."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    seconds_left: float


@dataclass(frozen=True)
class Epoch:
    """The line of metrics.jsonl, sent after every epoch."""

    epochs: int
    metrics: dict[str, Any]


Watcher = Callable[[Step | Epoch], None]
