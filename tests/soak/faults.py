"""What goes wrong, as a seed decides: one fault after another, some of which last while others come."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from tests.network.hosts import Cable
from tests.simulation.simulation import Violation
from tests.small_disk import fill
from tests.soak.service import Service

SHARES = {
    "worker killed": 5,
    "broker killed": 4,
    "worker stopped": 4,
    "broker stopped": 3,
    "client killed": 4,
    "service killed": 2,
    "everything killed": 2,
    "service ended and started": 2,
    "worker outlived its service": 1,
    "disk full": 2,
    "cable cut": 12,
}
"""How often each kind is chosen. Every kind comes once before any comes twice."""
FULL_DISK = "disk full"
CUT = "cable cut"
STOP_SECONDS_MIN = 0.1
WAIT_SECONDS_MAX = 2.0
"""The longest that it is quiet between two faults, though calls be slow."""
AGAIN_SECONDS = 0.05
RECOVERY_SECONDS_MAX = 60.0
"""By when calls must be answered again when nothing has been wrong for so long."""
LEFT_MIB = (0, 0, 20)
"""How much room is left on a full disk: less than the service leaves by itself."""


class Surroundings(Protocol):
    """What faults need to know of the run."""

    def answered(self) -> int:
        """How many calls have been."""
        ...

    def kill_a_client(self) -> bool:
        """Kill a client that waits for an answer. Returns whether there was one."""
        ...

    def now(self) -> float:
        """Seconds since the run began."""
        ...


class Faults:
    """Makes a service fail, on a thread of its own, until `end`. With a `disk`, that gets full too."""

    def __init__(
        self,
        random: Random,
        service: Service,
        around: Surroundings,
        disk: Path | None,
        calls_apart: int,
        stop_seconds: float,
        cables: Sequence[Cable] = (),
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.log: list[tuple[float, str]] = []
        self._failure: BaseException | None = None
        self._random = random
        self._service = service
        self._around = around
        self._disk = disk
        self._cables = cables
        self._calls_apart = calls_apart
        self._stop_seconds = stop_seconds
        self._ending = threading.Event()
        self._lasting: list[threading.Timer] = []
        self._full = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="faults")

    def begin(self) -> None:
        """Let things go wrong."""
        self._thread.start()

    def end(self) -> None:
        """Nothing new goes wrong, and what is wrong ends."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        for timer in self._lasting:
            timer.join()

    def check(self) -> None:
        """Raise what the thread has met: a Violation if the service does not come back."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            for kind in self._kinds():
                self._wait()
                if self._ending.is_set():
                    return
                self._service.check()
                strike = getattr(self, "_" + kind.replace(" ", "_"))
                while (what := strike()) is None:  # what it is to strike is just not there
                    if self._ending.wait(AGAIN_SECONDS):
                        return
                self.counts[kind] += 1
                self.log.append((self._around.now(), f"{kind}{what}"))
        except BaseException as error:
            self._failure = error

    def _kinds(self) -> Iterator[str]:
        kinds = [kind for kind in SHARES if kind != FULL_DISK or self._disk is not None]
        kinds = [kind for kind in kinds if kind != CUT or self._cables]
        yield from self._random.sample(kinds, len(kinds))
        while True:
            yield self._random.choices(kinds, [SHARES[kind] for kind in kinds])[0]

    def _cable_cut(self) -> str | None:
        cable, seconds = self._random.choice(self._cables), self._random.uniform(STOP_SECONDS_MIN, self._stop_seconds)
        cable.cut()
        timer = threading.Timer(seconds, cable.plug)
        timer.start()
        self._lasting.append(timer)
        return f": {cable.number}, for {seconds:.2f} s"

    def _wait(self) -> None:
        """Some calls, or some time, whichever is over first; and until calls are answered if nothing is wrong."""
        share = self._random.uniform(0.0, 2.0)
        begun, calls = time.monotonic(), self._around.answered()
        while not self._ending.wait(0.01):
            done, lasts = self._around.answered() - calls, time.monotonic() - begun
            wrong = any(timer.is_alive() for timer in self._lasting)
            if done >= self._calls_apart * share or (lasts > WAIT_SECONDS_MAX and (done or wrong)):
                break
            if lasts > RECOVERY_SECONDS_MAX:
                raise Violation(f"no call was answered in {lasts:.0f} s though every process was let run")
        self._lasting = [timer for timer in self._lasting if timer.is_alive()]

    def _last(self, undo: Callable[[], None], seconds: float) -> None:
        """Have something end after a while."""
        timer = threading.Timer(seconds, undo)
        timer.start()
        self._lasting.append(timer)

    def _child(self, kind: str) -> tuple[str, int] | None:
        """A process of the service, if there is one of this kind."""
        found = sorted((name, pid) for name, pid in self._service.children().items() if name.startswith(kind))
        return self._random.choice(found) if found else None

    def _kill(self, kind: str) -> str | None:
        child = self._child(kind)
        if child is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(child[1], signal.SIGKILL)
            return f": {child[0]}"
        return None

    def _stop(self, kind: str) -> str | None:
        """Stop a process; it is woken again, and only that one, should it have been replaced meanwhile."""
        child = self._child(kind)
        if child is None:
            return None
        seconds = self._random.uniform(STOP_SECONDS_MIN, self._stop_seconds)
        try:
            itself = os.pidfd_open(child[1])
        except ProcessLookupError:
            return None
        signal.pidfd_send_signal(itself, signal.SIGSTOP)
        self._last(lambda: _wake(itself), seconds)
        return f": {child[0]} for {seconds:.1f} s"

    def _worker_killed(self) -> str | None:
        return self._kill("worker")

    def _broker_killed(self) -> str | None:
        return self._kill("broker")

    def _worker_stopped(self) -> str | None:
        return self._stop("worker")

    def _broker_stopped(self) -> str | None:
        return self._stop("broker")

    def _client_killed(self) -> str | None:
        return "" if self._around.kill_a_client() else None

    def _service_killed(self) -> str:
        self._service.kill()
        self._service.start()
        return ""

    def _everything_killed(self) -> str:
        self._service.kill(*self._service.children().values())
        self._service.start()
        return ""

    def _service_ended_and_started(self) -> str:
        self._service.end()
        self._service.start()
        return ""

    def _worker_outlived_its_service(self) -> str | None:
        """A worker sleeps while its service is killed and another one is started; then it wakes."""
        stopped = self._stop("worker")
        if stopped is None:
            return None
        self._service_killed()
        return stopped

    def _disk_full(self) -> str | None:
        assert self._disk is not None
        if not self._full.acquire(blocking=False):
            return None
        left_mib = self._random.choice(LEFT_MIB)
        seconds = self._random.uniform(STOP_SECONDS_MIN, self._stop_seconds)
        ballast = fill(self._disk, left_mib)

        def make_room() -> None:
            ballast.unlink()
            self._full.release()

        self._last(make_room, seconds)
        return f": {left_mib} MiB left for {seconds:.1f} s"


def _wake(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGCONT)
    os.close(process)
