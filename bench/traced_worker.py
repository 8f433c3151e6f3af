"""A worker that notes when each turn began, was decided, was answered: `python -m holdall.bench.traced_worker SETTINGS`.

The notes go to the file that HOLDALL_TRACE names, when the worker ends: four 64-bit times of the monotonic clock for each turn.
"""

from __future__ import annotations

import os
from array import array
from time import perf_counter_ns
from typing import Any

from holdall.process.child import Child, run_supervised
from holdall.process.config import WorkerSettings
from holdall.worker import serve as untraced
from holdall.worker.loop import Loop


class TracedLoop(Loop):
    """Notes only turns that had something to answer."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.times = array("q")
        self._is_asked = False
        super().__init__(*args, **more)

    def run(self) -> None:
        """As a worker's loop does; then write the notes."""
        super().run()
        with open(os.environ["HOLDALL_TRACE"], "wb") as file:
            self.times.tofile(file)

    def _take(self, sources: list[Any]) -> Any:
        woken = perf_counter_ns()
        messages, size = super()._take(sources)
        if messages:
            self.times.extend((woken, perf_counter_ns()))
            self._is_asked = True
        return messages, size

    def _send(self, answers: Any) -> None:
        notes, self._is_asked = bool(answers) and self._is_asked, self._is_asked and not answers  # a HELLO alone is no answer
        if notes:
            self.times.append(perf_counter_ns())
        super()._send(answers)
        if notes:
            self.times.append(perf_counter_ns())


def serve(settings: WorkerSettings, child: Child) -> int:
    """As a worker does."""
    module: Any = untraced
    module.Loop = TracedLoop
    return untraced.serve(settings, child)


if __name__ == "__main__":
    run_supervised(WorkerSettings, serve)
