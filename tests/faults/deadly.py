"""Workers that die, spin, or wait, at a certain step of their work, once, when they are told to: by a file.

PYTHONPATH makes every process of a service read `sitecustomize.py` first; there the step is put around the real one.
"""

from __future__ import annotations

from pathlib import Path

from tests.processes import RESTARTING_AT_ONCE

_PROGRAM = """
import os, pathlib, signal, time
from holdall.worker.core import Worker
from holdall.worker.state.transaction import Transaction

armed = pathlib.Path({armed!r})

def due(step):
    if not armed.exists() or armed.read_text() != step:
        return False
    armed.unlink()
    return True

def die():
    os.kill(os.getpid(), signal.SIGKILL)

begin_commit, begin, end = Transaction.begin_commit, Worker.begin, Worker.end

def deadly_begin_commit(self):
    decided = bool(self._changes)
    commit = begin_commit(self)

    def deadly():
        while due("waiting for the disk"):
            while not armed.exists():
                time.sleep(0.001)
        if due("killed before the write"):
            die()
        commit()
        if due("killed after the write"):
            die()

    return deadly if decided else commit

def deadly_begin(self, messages, now):
    while due("busy"):
        while True:
            pass
    return begin(self, messages, now)

def deadly_end(self):
    answers = end(self)
    if due("killed before the reply"):
        die()
    return answers

Transaction.begin_commit, Worker.begin, Worker.end = deadly_begin_commit, deadly_begin, deadly_end
"""
STUCK = ("busy", "waiting for the disk")
"""Steps that end only when somebody notices."""
STEPS = ("killed before the write", "killed after the write", "killed before the reply", *STUCK)


class Deadly:
    """A folder for PYTHONPATH, and the trigger."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "deadly"
        self.path.mkdir()
        self._armed = folder / "armed"
        (self.path / "sitecustomize.py").write_text(RESTARTING_AT_ONCE + _PROGRAM.format(armed=str(self._armed)))

    def arm(self, step: str) -> None:
        """Have the next worker that comes to this step die there; let go one that is waiting for the disk."""
        scratch = self._armed.with_suffix(".new")
        scratch.write_text(step)
        scratch.rename(self._armed)

    @property
    def has_struck(self) -> bool:
        """Whether a worker came there."""
        return not self._armed.exists()
