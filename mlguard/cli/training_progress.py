"""Show the progress of training: a live bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mlguard.cli.printable import shows, tell
from mlguard.errors import MissingExtra
from mlguard.protect.training import Epoch, Step, Watcher
from mlguard.tasks import SCORE_NAMES

PLAIN_LINE_S = 30.0  # seconds between two lines within an epoch, off a terminal


Sink = Callable[[Epoch], None]  # another receiver of every epoch


@contextmanager
def show_training(title: str, *sinks: Sink) -> Iterator[Watcher]:
    """Return a watcher for `train` that shows progress on standard error.

    Args:
        title: What is being trained.
        *sinks: Called with every epoch as well.
    """
    console = Console(stderr=True)
    if shows(console):
        bar = _bar(console)
        try:
            yield _Live(bar, title, sinks)
        finally:
            bar.stop()
    else:
        yield _Plain(title, sinks)


def tensorboard_sink(folder: Path) -> Sink:
    """Write every number of every epoch as TensorBoard events.

    Raises:
        MissingExtra: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra(
            "--tensorboard needs the package tensorboard, which is not installed",
            hint="install it with `pip install tensorboard`",
        ) from None
    writer: SummaryWriter | None = None

    def write(event: Epoch) -> None:
        nonlocal writer
        # Not before the first epoch: it creates a folder where the run must be new.
        writer = writer or SummaryWriter(str(folder))
        for name, value in event.metrics.items():
            writer.add_scalar(name, value, event.metrics["epoch"])
        writer.flush()

    return write


def time_left(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> time_left(40), time_left(130), time_left(7300)
        ('40 s', '2 min 10 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        console=console,
    )


def _epoch_line(event: Epoch) -> str:
    line = event.metrics
    return (
        f"epoch {line['epoch']}/{event.epochs}  "
        f"loss {line['train_loss']:.3f}  "
        f"validation loss {line['validation_loss']:.3f}  "
        f"{_score(event)}"
    )


def _score(event: Epoch) -> str:
    """Return the validation score and its name, by the task."""
    for task in SCORE_NAMES.values():
        if (name := f"validation_{task.lower()}") in event.metrics:
            return f"{task} {event.metrics[name]:.3f}"
    return ""


class _Live:
    def __init__(self, bar: Progress, title: str, sinks: tuple[Sink, ...]) -> None:
        self._bar, self._title, self._sinks = bar, title, sinks
        self._task = bar.add_task(title, total=None, told="")
        self._score = ""

    def __call__(self, event: Step | Epoch) -> None:
        self._bar.start()  # not earlier: the check of the data has a bar of its own
        if isinstance(event, Epoch):
            self._score = f"{_score(event)}  "
            said = f"{self._title}: {_epoch_line(event)}"
            self._bar.console.print(said, highlight=False, markup=False)
            for sink in self._sinks:
                sink(event)
            return
        told = (
            f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.3f}  "
            f"{self._score}{time_left(event.seconds_left)} left"
        )
        done = (event.epoch - 1) * event.steps + event.step
        total = event.epochs * event.steps
        self._bar.update(self._task, completed=done, total=total, told=told)


class _Plain:
    def __init__(self, title: str, sinks: tuple[Sink, ...]) -> None:
        self._title, self._sinks = title, sinks
        self._spoke = time.monotonic()

    def __call__(self, event: Step | Epoch) -> None:
        if isinstance(event, Epoch):
            self._say(_epoch_line(event))
            for sink in self._sinks:
                sink(event)
        elif time.monotonic() - self._spoke > PLAIN_LINE_S:
            self._say(
                f"epoch {event.epoch}/{event.epochs}  step {event.step}/{event.steps}  "
                f"loss {event.loss:.3f}  {time_left(event.seconds_left)} left"
            )

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        tell(f"{self._title}: {text}")
