"""How much of a processor this process may use, where a container limits that.

Libraries count the machine's cores, and a container of one core then has as many
threads in turn as its host has cores.
"""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of cgroup 2: "max 100000" or "150000 100000"
OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # of cgroup 1; -1 is none
OLD_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def cpu_quota() -> float | None:
    """How many cores' time the control group may use; None if that is all of them."""
    try:
        quota, period = QUOTA.read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = OLD_QUOTA.read_text(), OLD_PERIOD.read_text()
        except OSError:
            return None
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max" is no number
        return None
    return cores if 0 < cores < (os.cpu_count() or 1) else None
