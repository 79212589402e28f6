"""Set up the process of a command, before it works and before torch is loaded.

A core dump would write keys and opened models to disk. A command that gets SIGTERM, as
from `kill` and schedulers, or SIGHUP, as from a terminal that is closed, ends as if
interrupted, so that it removes its temporary files. A file that took the number of a
closed standard stream would get what libraries print. Waiting threads must not spin: on
shared cores they take time from those that work.
"""

import math
import os
import signal
import sys
from contextlib import suppress

from mlguard.quota import cpu_quota

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PR_SET_DUMPABLE = 4  # <sys/prctl.h>


def set_up() -> None:
    """Set up the process of a command."""
    no_core_dumps()
    open_standard_streams()
    end_by_signals()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = cores_of_quota()
    if cores is not None and "OMP_NUM_THREADS" not in os.environ:
        use_threads(cores)


def open_standard_streams() -> None:
    """Open descriptors 0 to 2 that are closed (`2>&-`) on the null device."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the lowest free number is taken, which is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def end_by_signals() -> None:
    """Take SIGTERM and SIGHUP for Ctrl-C; a SIGHUP that `nohup` ignores stays so."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up is not None and signal.getsignal(hang_up) is signal.SIG_DFL:
        signal.signal(hang_up, signal.default_int_handler)


def no_core_dumps() -> None:
    """Prevent core dumps, if the system supports it.

    The limit is one byte and not zero: Linux hands dumps to a collector whatever the
        limit is, except at one byte (kernel, fs/coredump.c).
    """
    try:
        import resource
    except ImportError:  # Windows writes none by default
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def hide_memory() -> None:
    """Keep other processes of the same user from reading this one's memory, on Linux.

    It is called before a secret is read and not for every command, because it also
    keeps debuggers and profilers away. Root can still read it. Linux then writes no
    core dump either, not even to a collecting program.
    """
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def use_threads(count: int) -> None:
    """Set the number of threads of torch and numpy, before they are loaded."""
    for name in THREADS:
        os.environ[name] = str(count)


def cores_of_quota() -> int | None:
    """Return how many cores the container may use; None if that is all of them."""
    quota = cpu_quota()
    return None if quota is None else math.ceil(quota)
