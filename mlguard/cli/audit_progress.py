"""Two bars of an audit, on standard error, and what is said when it is stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from mlguard.errors import Interrupted

Bars = tuple[Callable[[int, int], None], Callable[[str, int], None]]


@contextmanager
def audit_on_terminal() -> Iterator[Bars]:
    """Give a callback for predictions (done, all), and one for attacks (name, done).

    Shows nothing where standard error is not a terminal.
    """
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        predicting = bars.add_task("predicting", total=None)
        attack = bars.add_task("attacking", total=None, visible=False)

        def count(done: int, total: int) -> None:
            bars.update(predicting, completed=done, total=total)

        def attacking(name: str, done: int) -> None:
            bars.update(attack, description=name, completed=done, visible=True)

        yield count, attacking


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
