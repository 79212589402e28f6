"""Show the progress of an audit on standard error, and how to resume it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from mlguard.cli.printable import shows
from mlguard.errors import Interrupted


class _Bars:
    """A bar for predictions and one for attacks, fed by `mlguard.audit.run`."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._predicted = bars.add_task("predicting", total=None)
        self._attacked = bars.add_task("attacking", total=None, visible=False)

    def predicting(self, done: int, total: int) -> None:
        """Show how many predictions are made, of how many."""
        self._bars.update(self._predicted, completed=done, total=total)

    def attacking(self, name: str, done: int) -> None:
        """Show how many predictions an attack has made so far."""
        self._bars.update(
            self._attacked, description=name, completed=done, visible=True
        )


@contextmanager
def audit_on_terminal() -> Iterator[_Bars]:
    """Show progress, if standard error is a terminal."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not shows(console)) as bars:
        yield _Bars(bars)


@contextmanager
def resumable(log: Path) -> Iterator[None]:
    """Say after Ctrl-C how to resume, if anything was measured.

    Raises:
        Interrupted: The audit was stopped, and its log exists.
    """
    try:
        yield
    except KeyboardInterrupt:
        if not log.exists():
            raise
        raise Interrupted(
            f"the audit was stopped; its measurements are in {log}",
            hint="resume with the same command and --resume",
        ) from None
