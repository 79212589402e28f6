"""Two bars of an audit, on standard error, and what is said when it is stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from mlguard.cli.printable import shows
from mlguard.errors import Interrupted


class _Bars:
    """A bar for predictions, and one for attacks; what `mlguard.audit.run` tells."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._predicted = bars.add_task("predicting", total=None)
        self._attacked = bars.add_task("attacking", total=None, visible=False)

    def predicting(self, done: int, total: int) -> None:
        """So many predictions are made, of so many."""
        self._bars.update(self._predicted, completed=done, total=total)

    def attacking(self, name: str, done: int) -> None:
        """An attack asked for so many predictions so far."""
        self._bars.update(
            self._attacked, description=name, completed=done, visible=True
        )


@contextmanager
def audit_on_terminal() -> Iterator[_Bars]:
    """Shows nothing where standard error is not a terminal."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not shows(console)) as bars:
        yield _Bars(bars)


@contextmanager
def resumable(log: Path) -> Iterator[None]:
    """Say after Ctrl-C how to go on, if anything was measured.

    Raises:
        Interrupted: The audit was stopped, and its log is there.
    """
    try:
        yield
    except KeyboardInterrupt:
        if not log.exists():
            raise
        raise Interrupted(
            f"the audit was stopped; what was measured is in {log}",
            hint="go on with the same command and --resume",
        ) from None
