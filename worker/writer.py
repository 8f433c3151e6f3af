"""A thread that writes one batch at a time to the disk, while the loop's own thread answers those who only read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Writer:
    """`wake` is called from its thread when a batch is written, or could not be."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.is_busy = False
        """Whether a batch was given to it whose end nobody has been told of."""
        self._wake = wake
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._failed: Exception | None = None
        self._thread: threading.Thread | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Have this called. It is not busy."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
            self._thread.start()
        self.is_busy = True
        self._jobs.put(write)

    @property
    def has_ended(self) -> bool:
        """Whether the batch that was begun is written, or could not be."""
        return self.is_busy and not self._ended.empty()

    def end(self) -> None:
        """Wait for that, and be free for another one. Raises what it ended with: CommitFailed, if the store is to blame."""
        self._ended.get()
        self.is_busy = False
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _work(self) -> None:
        while True:
            write = self._jobs.get()
            try:
                write()
            except Exception as error:
                self._failed = error
            self._ended.put(None)
            self._wake()
