"""Keep a crash from writing the memory of a command that holds keys to a disk."""

import sys
from contextlib import suppress

PR_SET_DUMPABLE = 4  # <sys/prctl.h>


def forbid_core_dumps() -> None:
    """No core file of this process, nor of those that it starts.

    On Linux it also cannot be read by a debugger of the same user; root still can. A
    system that has neither limit is left as it is.
    """
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # A limit of zero does not stop a core that is piped to a program.
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
