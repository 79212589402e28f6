"""Two bars of an audit, on standard error; nothing when it is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

Bars = tuple[Callable[[int, int], None], Callable[[str, int], None]]


@contextmanager
def audit_on_terminal() -> Iterator[Bars]:
    """Give a callback for predictions (done, all), and one for attacks (name, done)."""
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
