"""Show a bar that counts images on standard error, if it is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from mlguard.cli.printable import shows


@contextmanager
def count_on_terminal(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback that takes (done, all) and moves the bar.

    The bar is live from the first call until all are done, not for the whole block:
    two live bars on one terminal overwrite each other.
    """
    console = Console(stderr=True)
    if not shows(console):
        yield lambda done, total: None
        return
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    bar = Progress(*columns, console=console)
    task = bar.add_task(title, total=None)

    def count(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    try:
        yield count
    finally:
        bar.stop()
