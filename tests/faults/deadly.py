"""Workers that die, or spin, at a certain step of their work, once, when they are told to: by a file.

PYTHONPATH makes every process of a service read `sitecustomize.py` first; there the step is put around the real one.
"""

from __future__ import annotations

from pathlib import Path

_PROGRAM = """
import os, pathlib, signal
from holdall.worker.core import Worker
from holdall.worker.transaction import Transaction

armed = pathlib.Path({armed!r})

def due(step):
    if not armed.exists() or armed.read_text() != step:
        return False
    armed.unlink()
    return True

def die():
    os.kill(os.getpid(), signal.SIGKILL)

commit, tick = Transaction.commit, Worker.tick

def deadly_commit(self):
    writes = bool(self._changes)
    if writes and due("killed before the write"):
        die()
    commit(self)
    if writes and due("killed after the write"):
        die()

def deadly_tick(self, messages, now):
    while due("busy"):
        while True:
            pass
    answers = tick(self, messages, now)
    if due("killed before the reply"):
        die()
    return answers

Transaction.commit, Worker.tick = deadly_commit, deadly_tick
"""
STEPS = ("killed before the write", "killed after the write", "killed before the reply", "busy")


class Deadly:
    """A folder for PYTHONPATH, and the trigger."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "deadly"
        self.path.mkdir()
        self._armed = folder / "armed"
        (self.path / "sitecustomize.py").write_text(_PROGRAM.format(armed=str(self._armed)))

    def arm(self, step: str) -> None:
        """Have the next worker that comes to this step die there."""
        scratch = self._armed.with_suffix(".new")
        scratch.write_text(step)
        scratch.rename(self._armed)

    @property
    def has_struck(self) -> bool:
        """Whether a worker came there."""
        return not self._armed.exists()
