"""What a thread asks of the scheduler: the system itself says what came of it."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdall.process.slices import SLICE_NANOSECONDS, ask_for_short_slices


def test_a_thread_gets_the_slices_it_asks_for_and_keeps_its_niceness() -> None:
    def asked() -> tuple[bool, int, int, str]:
        before = os.getpriority(os.PRIO_PROCESS, 0)
        granted = ask_for_short_slices()
        return granted, before, os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/thread-self/sched").read_text()

    if not Path("/proc/thread-self/sched").exists():
        pytest.skip("this system tells nothing of its scheduler")
    with ThreadPoolExecutor(1) as pool:
        granted, before, after, told = pool.submit(asked).result()
    assert after == before
    found = re.search(r"se\.slice\s*:\s*(\d+)", told)
    if not granted or found is None:
        pytest.skip("this system has no slices of one's own")
    assert int(found[1]) == SLICE_NANOSECONDS
