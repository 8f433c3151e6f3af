"""A thread that writes one batch at a time to the disk, while the loop answers what only reads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from holdall.worker.state.transaction import Commit, CommitFailed


class CommitThread:
    """`wake` is called from the thread when a batch is written, or could not be."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.is_busy = False
        """Whether a batch was given to it, and `join` was not called since."""
        self.has_ended = False
        """Whether that batch is written, or could not be."""
        self._wake = wake
        self._commits: queue.SimpleQueue[Commit] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._failed: Exception | None = None
        self._thread: threading.Thread | None = None

    def begin(self, commit: Commit) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="commit", daemon=True)
            self._thread.start()
        self.is_busy = True
        self._commits.put(commit)

    def join(self) -> CommitFailed | None:
        """Wait for that, and be free for another one. Returns the failure of the store, if it is one; raises any other."""
        self._ended.get()
        self.is_busy = self.has_ended = False
        failed, self._failed = self._failed, None
        if failed is None or isinstance(failed, CommitFailed):
            return failed
        raise failed

    def _work(self) -> None:
        while True:
            commit = self._commits.get()
            try:
                commit()
            except Exception as error:
                self._failed = error
            self.has_ended = True
            self._ended.put(None)
            self._wake()
