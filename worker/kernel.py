"""Syncs that the kernel carries out by itself: the asynchronous I/O of Linux, through caio.

A thread that waits in `fdatasync` takes the interpreter's lock in turns with the loop's own, and that costs more than the sync
when several processes share two CPUs. Of four clients whose calls are one put in ten, 1.1 times as many are answered so.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from typing import Any

from holdall.worker.store import Syncing
from holdall.worker.transaction import CommitFailed

_ERRORS = (OSError, OverflowError, SystemError, ValueError)
"""What caio raises when the kernel refuses: EAGAIN is an OverflowError, EINVAL a ValueError, all else a SystemError."""


class KernelSync:
    """One sync at a time. To `Watch` it is a source; what there is to take is only that the sync has ended.

    `fdsync` makes the operation, of a file's descriptor.
    """

    def __init__(self, context: Any, fdsync: Callable[[int], Any]) -> None:
        self.descriptor: int = context.fileno
        self._context = context
        self._fdsync = fdsync
        self._syncing: Syncing | None = None
        self._result: int | None = None

    def begin(self, left: Callable[[], None]) -> bool:
        """Have this done, if it is a sync that the kernel can do. Returns whether it is."""
        if not isinstance(left, Syncing) or left.file.descriptor is None:
            return False
        operation = self._fdsync(left.file.descriptor)
        operation.set_callback(self._note_result)
        try:
            self._context.submit(operation)
        except _ERRORS:  # a kernel before 4.18, or one that has no more to give
            return False
        self._syncing, self._result = left, None
        return True

    def take(self) -> tuple[list[Any], int]:
        """See whether it has ended. There are no messages here."""
        with contextlib.suppress(BlockingIOError):
            self._context.poll()
        self._context.process_events()
        return [], 0

    @property
    def has_ended(self) -> bool:
        """Whether the sync is over."""
        return self._result is not None

    def end(self) -> None:
        """Wait for that. Raises CommitFailed."""
        while self._result is None:
            select.select([self.descriptor], [], [])
            self.take()
        assert self._syncing is not None
        if self._result != 0:  # the error's number, negative, and told by caio as an unsigned one
            error = -self._result & 0xFFFFFFFF
            raise CommitFailed(f"{self._syncing.file.name} cannot be synced: {os.strerror(error)}")
        self._syncing.ended()

    def _note_result(self, result: int) -> None:
        self._result = result


def kernel_sync() -> KernelSync | None:
    """None where the system has no such thing, or none for us."""
    try:
        from caio import linux_aio

        return KernelSync(linux_aio.Context(max_requests=1), linux_aio.Operation.fdsync)
    except (ImportError, AttributeError, *_ERRORS):  # caio has None in the place of what its kernel does not have
        return None
