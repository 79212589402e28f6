"""What the process of a command is set to before it works, and before torch is loaded.

A core dump would write keys and opened models to disk. A command that is told to end
(SIGTERM, as `kill` and schedulers send it) ends like one that was interrupted, so that
it takes its temporary files with it. Threads that wait must not spin: on cores that
are shared they take the time of those that work.
"""

import math
import os
import signal
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of cgroup 2: "max 100000" or "150000 100000"
OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # of cgroup 1; -1 is none
OLD_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def set_up() -> None:
    """Set up the process of a command."""
    no_core_dumps()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = cores_of_quota()
    if cores is not None and "OMP_NUM_THREADS" not in os.environ:
        use_threads(cores)


def no_core_dumps() -> None:
    """Have a crash leave no image of the memory, where the system can be asked to.

    A limit of one byte and not of none: Linux hands dumps to a collector whatever the
    limit is, unless it is just that (kernel, fs/coredump.c).
    """
    try:
        import resource
    except ImportError:  # Windows writes none unless it is asked to
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def use_threads(count: int) -> None:
    """Have torch and numpy use so many threads. Only before they are loaded."""
    for name in THREADS:
        os.environ[name] = str(count)


def cores_of_quota() -> int | None:
    """How many cores the control group may keep busy; None if that is all of them.

    A container that may use two of 64 cores sees all of them, and would be slowed down
    by threads that take turns.
    """
    quota = _quota()
    if quota is None or quota >= (os.cpu_count() or 1):
        return None
    return max(1, math.ceil(quota))


def _quota() -> float | None:
    """How many cores' time the control group may use; None if it has no limit."""
    try:
        quota, period = QUOTA.read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = OLD_QUOTA.read_text(), OLD_PERIOD.read_text()
        except OSError:
            return None
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max" is no number
        return None
    return share if share > 0 else None
