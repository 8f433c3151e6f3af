"""Asks the scheduler for short slices, so that a small request does not wait for the end of another process' slice.

The invariant of this speed device: the thread gets no more time in all, only sooner. Source: sched_setattr(2); "sched/eevdf:
Use sched_attr::sched_runtime to set request/slice suggestion", Linux 6.12.
"""

from __future__ import annotations

import os
import platform
import struct
import sys

SLICE_NANOSECONDS = 100_000
"""The shortest that Linux allows."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355}
"""The number of the system call, for which the C library has no name."""
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")
"""Size, policy, flags, nice, priority, runtime, deadline, period."""


def ask_for_short_slices() -> bool:
    """Have this thread get short slices, and soon. Returns whether the system knows of that."""
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    import ctypes  # slow to load: the process has said before that it is ready

    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NANOSECONDS, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, wanted, 0) == 0)
