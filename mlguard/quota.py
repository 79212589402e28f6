"""Read the CPU quota of a container.

Libraries count the machine's cores, so that in a container of one core as many threads
would take turns as its host has cores.
"""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of cgroup 2: "max 100000" or "150000 100000"
OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # of cgroup 1; -1 is none
OLD_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def cpu_quota() -> float | None:
    """Return how many cores the control group may use; None if that is all of them."""
    try:
        quota, period = QUOTA.read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = OLD_QUOTA.read_text(), OLD_PERIOD.read_text()
        except OSError:
            return None
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max" is not a number
        return None
    return cores if 0 < cores < (os.cpu_count() or 1) else None
