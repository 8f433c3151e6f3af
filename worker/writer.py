"""Who writes one batch at a time to the disk, while the loop answers those who only read: the kernel, or a thread.

What is left of most batches is to sync the journal, and the kernel does that by itself. A thread does all else: large batches,
which go to LevelDB, and everything where the kernel has no asynchronous syncs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from holdall.worker.kernel import KernelSync
from holdall.worker.transaction import Commit


class Writer:
    """`wake` is called from a thread when that is done, or could not be; of the kernel the loop hears by its descriptor."""

    def __init__(self, wake: Callable[[], None], kernel: KernelSync | None) -> None:
        self.is_busy = False
        """Whether a batch was given to it whose end nobody has been told of."""
        self._kernel = kernel
        self._thread = WriterThread(wake)
        self._at_work: KernelSync | WriterThread = self._thread

    def begin(self, commit: Commit) -> None:
        """Have this done. It is not busy."""
        if self._kernel is not None and self._kernel.begin(commit.left):
            self._at_work = self._kernel
        else:
            self._thread.begin(commit)
            self._at_work = self._thread
        self.is_busy = True

    @property
    def is_thread_busy(self) -> bool:
        """Whether a thread is at work."""
        return self.is_busy and self._at_work is self._thread

    @property
    def has_ended(self) -> bool:
        """Whether the batch that was begun is written, or could not be."""
        return self.is_busy and self._at_work.has_ended

    def end(self) -> None:
        """Wait for that, and be free for another one. Raises what it ended with: CommitFailed, if the store is to blame."""
        self.is_busy = False
        self._at_work.end()


class WriterThread:
    """A thread that does one thing at a time."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._failed: Exception | None = None
        self._thread: threading.Thread | None = None

    def begin(self, job: Callable[[], None]) -> None:
        """Have this called."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    @property
    def has_ended(self) -> bool:
        """Whether it has been."""
        return not self._ended.empty()

    def end(self) -> None:
        """Wait for that. Raises what it raised."""
        self._ended.get()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception as error:
                self._failed = error
            self._ended.put(None)
            self._wake()
