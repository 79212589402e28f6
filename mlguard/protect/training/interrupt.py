"""Turn Ctrl-C into a request, so that no step is interrupted."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """A flag that says whether a stop was requested."""

    requested = False


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Catch the first SIGINT or SIGTERM; a second one stops at once, unsaved.

    Outside the main thread, Python cannot handle signals, and nothing is caught.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    caught = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in caught}

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.requested = True
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in caught:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
