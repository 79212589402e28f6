"""What a watcher of a training hears."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """What a watcher is told now and then within an epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    seconds_left: float


@dataclass(frozen=True)
class Epoch:
    """What a watcher is told after every epoch: the line of metrics.jsonl."""

    epochs: int
    metrics: dict[str, Any]


Watcher = Callable[[Step | Epoch], None]
