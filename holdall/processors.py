"""How many processors this process may use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container: microseconds of processor time, or "max", and in how many. Source: Linux, admin-guide/cgroup-v2."""


def usable() -> int:
    """Those it may run on, or as many as its container may use the time of; all where the system does not say."""
    runs_on = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(runs_on, int(quota) // int(period)))
    except (OSError, ValueError):  # there is none
        return runs_on


@cache
def can_give_way() -> bool:
    """Whether a thread can give its processor away, while another processor serves what it waits for."""
    return hasattr(os, "sched_yield") and usable() > 1


def give_way() -> None:
    """Let another thread have the processor. A thread at long work gives way between two parts of it, each of which the system
    may not interrupt: else another client's small request waits for all of it.
    """
    if can_give_way():
        os.sched_yield()
