"""How much memory the processes of a service have, from before an attack to its end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

SAMPLE_SECONDS = 0.25
WARM_SHARE = 0.3
"""The share of an attack after which caches, write buffers and queues have grown to their bounds."""
GROWTH_BYTES_MAX = 48 * 1024 * 1024
"""What a process may still gain when warm: LevelDB's block cache alone may take 64 MiB, and fills slowly."""
RESIDENT_BYTES_MAX = 512 * 1024 * 1024


class Growth(NamedTuple):
    """The resident bytes of one process: before, the most while it warmed up, the most afterwards, at the end."""

    process: str
    before: int
    warm: int
    most: int
    end: int

    @property
    def fault(self) -> str:
        """What is wrong with it, if something is."""
        if self.most > RESIDENT_BYTES_MAX:
            return f"{self.process} took {self.most >> 20} MiB"
        if self.most > self.warm + GROWTH_BYTES_MAX:
            return f"{self.process} went on growing, from {self.warm >> 20} to {self.most >> 20} MiB"
        return ""


class Memory:
    """Samples of some processes, by process id."""

    def __init__(self, pids: list[str]) -> None:
        self._names = {pid: _name(pid) for pid in pids}
        self._samples: dict[str, list[tuple[float, int]]] = {pid: [] for pid in pids}
        self._due = 0.0
        self.sample(0.0)

    def sample(self, share: float) -> None:
        """Look, if it is time to; `share` of the attack is over."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + SAMPLE_SECONDS
        for pid, samples in self._samples.items():
            samples.append((share, _resident_bytes(pid)))

    def growths(self) -> list[Growth]:
        """What became of each."""
        self._due = 0.0
        self.sample(1.0)
        found: list[Growth] = []
        for pid, samples in self._samples.items():
            warm = max(size for share, size in samples if share <= WARM_SHARE)
            later = max(size for share, size in samples if share > WARM_SHARE)
            found.append(Growth(self._names[pid], samples[0][1], warm, later, samples[-1][1]))
        return found


def _name(pid: str) -> str:
    """What it is: "service", "broker", "worker 0", and so on."""
    argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    index = json.loads(argv[3]).get("index")
    return argv[2].removeprefix("holdall.") + ("" if index is None else f" {index}")


def _resident_bytes(pid: str) -> int:
    """What it has now; nothing, if it has died: whoever compares process ids tells of that."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024
