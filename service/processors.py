"""How many processors this process may use."""

from __future__ import annotations

import os


def usable() -> int:
    """Those it may run on, or all where the system does not say which."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
