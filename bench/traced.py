"""A worker that notes when each of its turns began, was decided, and was answered: `python -m holdall.bench.traced SETTINGS`.

The notes go to the file that HOLDALL_TRACE names, when the worker ends: four 64-bit times of the monotonic clock for each turn.
"""

from __future__ import annotations

import os
from array import array
from time import perf_counter_ns
from typing import Any

from holdall.process.child import Child, run_supervised
from holdall.process.config import WorkerSettings
from holdall.worker import loop


class TracedLoop(loop.Loop):
    """Notes only turns that had something to answer."""

    def __init__(self, *args: Any) -> None:
        self.times = array("q")
        self.begun = (0, 0)
        super().__init__(*args)

    def run(self) -> None:
        """As a worker's loop does; then write the notes."""
        super().run()
        with open(os.environ["HOLDALL_TRACE"], "wb") as file:
            self.times.tofile(file)

    def _take(self, sources: list[Any]) -> Any:
        woken = perf_counter_ns()
        taken = super()._take(sources)
        self.begun = woken, perf_counter_ns()
        return taken

    def _send(self, answers: Any) -> None:
        decided = perf_counter_ns()
        super()._send(answers)
        if answers:
            self.times.extend((*self.begun, decided, perf_counter_ns()))


def serve(settings: WorkerSettings, child: Child) -> None:
    """As a worker does."""
    module: Any = loop
    module.Loop = TracedLoop
    loop.serve(settings, child)


if __name__ == "__main__":
    run_supervised(WorkerSettings, serve)
