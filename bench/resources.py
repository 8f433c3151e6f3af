"""What the processes of a peer use: processor time, and how much memory they had at most."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

MIB = 1024 * 1024


class Use(NamedTuple):
    """Of one process, so far."""

    role: str
    """"broker", "worker 0"; of a server of another project, its program."""
    cpu_seconds: float
    peak_mib: float


def uses(pids: Iterable[int]) -> list[Use]:
    """Of these processes and all that they started."""
    found: list[Use] = []
    for pid in family(pids):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            process = psutil.Process(pid)
            times = process.cpu_times()
            found.append(Use(_role(process), times.user + times.system, _peak_mib(process)))
    return found


def busy_seconds(pids: Iterable[int]) -> float:
    """The processor time of these processes so far, exactly: `Use` has it in steps of 10 ms. Of Linux alone."""
    threads = [each for pid in pids for each in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(each.read_text().split()[0]) for each in threads) / 10**9


def family(pids: Iterable[int]) -> list[int]:
    """These processes, and all that they started."""
    roots = [psutil.Process(pid) for pid in pids]
    return [process.pid for root in roots for process in (root, *root.children(recursive=True))]


def cpu_seconds(before: list[Use], after: list[Use]) -> float:
    """What all of them took between the two."""
    return sum(use.cpu_seconds for use in after) - sum(use.cpu_seconds for use in before)


def _role(process: psutil.Process) -> str:
    argv = process.cmdline()
    if argv[1:2] == ["-m"] and argv[2].startswith("holdall."):
        return argv[2].removeprefix("holdall.")
    return process.name()


def _peak_mib(process: psutil.Process) -> float:
    """The most it had resident; where only Linux tells that, what it has now."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    return process.memory_info().rss / MIB
