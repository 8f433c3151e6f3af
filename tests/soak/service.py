"""The service under test: real processes on a data directory, which the harness starts, ends and kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from holdall.process import child
from holdall.process.child import READY
from holdall.process.config import ServiceSettings, Sync
from holdall.settings import service_url
from tests.processes import children
from tests.simulation.simulation import Violation

STUCK_SECONDS = 3.0
"""After so long a silence a worker is replaced: less than the longest stop, more than the shortest."""
LEAVING_SECONDS = 10.0
"""How long a new service waits for the processes of the one before."""
START_SECONDS_MAX = 60.0
"""By when a service must have started, however often it refuses to because a process of the one before is stopped."""
END_SECONDS_MAX = 30.0
TRACEBACK = "Traceback (most recent call last)"
TRACEBACK_CHARACTERS_MAX = 2_000


class Service:
    """A service, and another one on the same data directory when it has ended."""

    def __init__(self, data: Path, workers: int, sync: Sync, log: Path, listen: list[str]) -> None:
        self.url = service_url(data)
        self._settings = ServiceSettings(
            str(data), listen, workers, sync, lock_seconds=LEAVING_SECONDS, stuck_seconds=STUCK_SECONDS
        )
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Of the process that started the others."""
        assert self._process is not None
        return self._process.pid

    def children(self) -> dict[str, int]:
        """The broker and the workers that are there now, by name."""
        return children(self.pid)

    def start(self) -> None:
        """Start it, and wait until it can be used."""
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while True:
            with open(self._log, "a") as log:
                self._process = subprocess.Popen(
                    child.command("holdall.service", self._settings),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=child.environment(),
                )
            assert self._process.stdout is not None
            line = self._process.stdout.readline().strip()
            if line == READY:
                return
            self._leave()
            if time.monotonic() > give_up_at:
                raise Violation(f"the service does not start: {line}")

    def check(self) -> None:
        """Raise Violation if it has ended by itself."""
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            raise Violation(f"the service ended by itself, with status {status}: see {self._log}")

    def check_log(self) -> None:
        """Raise Violation if one of its processes met an error that nothing in it expects."""
        text = self._log.read_text()
        if TRACEBACK in text:
            raise Violation(f"in {self._log}: {text[text.index(TRACEBACK) :][:TRACEBACK_CHARACTERS_MAX]}")

    def kill(self, *others: int) -> None:
        """Kill its first process, and these besides."""
        assert self._process is not None
        for pid in others:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._leave()

    def end(self) -> None:
        """End it in order."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._leave()

    def _leave(self) -> None:
        assert self._process is not None
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Violation(f"the service does not end within {END_SECONDS_MAX:g} s") from None
