"""Syncs that the kernel carries out by itself: the asynchronous I/O of Linux.

A thread that waits in `fdatasync` takes the interpreter's lock in turns with the loop's own, and that costs more than the sync
when several processes share two CPUs. Of four clients whose calls are one put in ten, 1.1 times as many are answered so.

libc has no functions for the three system calls, and the package that has (caio) writes only from where a `bytes` happens to
lie: a file that is written past the page cache takes whole blocks from whole blocks of memory. So they are called here by their
numbers; io_setup(2), io_submit(2) and io_getevents(2) describe them, linux/aio_abi.h the structures.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import sys
from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple, Protocol

from holdall.worker.store import Syncing
from holdall.worker.transaction import CommitFailed

WRITE, SYNC = 1, 3
"""IOCB_CMD_PWRITE and IOCB_CMD_FDSYNC."""
DURABLE = 2
"""RWF_DSYNC: what is written survives a power cut once that is done."""
_NUMBERS = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}
"""Of io_setup, io_submit and io_getevents, on machines of this kind."""
_CONTROL_BLOCK = Struct("<QIIHhIQQqQII")
_EVENT_BYTES = 32
_RESULT = Struct("<q")
_RESULT_OFFSET = 16
_TELL_DESCRIPTOR = 1
_EVENTFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Order(NamedTuple):
    """What the kernel is asked. Its result is `length`, or the negative number of an error."""

    operation: int
    descriptor: int
    flags: int = 0
    address: int = 0
    length: int = 0
    offset: int = 0


class Kernel(Protocol):
    """It carries out one order at a time."""

    descriptor: int
    """Can be read once that is done."""

    def submit(self, order: Order) -> None:
        """Raises OSError if it cannot."""

    def result(self) -> int | None:
        """That of the order; None as long as there is none."""
        ...


class LinuxKernel:
    """Raises OSError if this kernel has no asynchronous I/O, or none for us."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        self._call: Callable[..., int] = libc.syscall
        setup, submit, events = (ctypes.c_long(number) for number in _NUMBERS[os.uname().machine])
        one, none = ctypes.c_long(1), ctypes.c_long(0)
        self._context = ctypes.c_ulong(0)
        self._block = bytearray(_CONTROL_BLOCK.size)
        self._event = bytearray(_EVENT_BYTES)
        blocks = (ctypes.c_void_p * 1)(_address(self._block))
        event = (ctypes.c_char * _EVENT_BYTES).from_buffer(self._event)
        self._checked(setup, one, ctypes.byref(self._context))
        self._submission = (submit, self._context, one, blocks)
        self._look = (events, self._context, none, one, event, None)
        self.descriptor: int = libc.eventfd(0, _EVENTFD_FLAGS)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "eventfd")

    def submit(self, order: Order) -> None:
        """Have the kernel begin with it."""
        operation, file, flags, address, length, offset = order
        _CONTROL_BLOCK.pack_into(
            self._block, 0, 0, 0, flags, operation, 0, file, address, length, offset, 0, _TELL_DESCRIPTOR, self.descriptor
        )
        self._checked(*self._submission)

    def result(self) -> int | None:
        """What has come of it."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 8)
        if not self._checked(*self._look):
            return None
        result: int = _RESULT.unpack_from(self._event, _RESULT_OFFSET)[0]
        return result

    def _checked(self, *arguments: Any) -> int:
        result = self._call(*arguments)
        if result < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return result


class KernelSync:
    """One sync at a time. To `Watch` it is a source; what there is to take is only that the sync has ended."""

    def __init__(self, kernel: Kernel) -> None:
        self.descriptor = kernel.descriptor
        self._kernel = kernel
        self._syncing: Syncing | None = None
        self._length = 0
        self._result: int | None = None

    def begin(self, left: Callable[[], None]) -> bool:
        """Have this done, if it is a sync that the kernel can do. Returns whether it is."""
        order = left.file.order(left.start, left.end) if isinstance(left, Syncing) else None
        if order is None:
            return False
        try:
            self._kernel.submit(order)
        except OSError:  # an older kernel, a file system that cannot, or nothing to give at the moment
            return False
        assert isinstance(left, Syncing)
        self._syncing, self._length, self._result = left, order.length, None
        return True

    def take(self) -> tuple[list[Any], int]:
        """See whether it has ended. There are no messages here."""
        result = self._kernel.result()
        if result is not None:
            self._result = result
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
        if self._result != self._length:
            why = os.strerror(-self._result) if self._result < 0 else f"{self._result:,} of {self._length:,} bytes were written"
            raise CommitFailed(f"{self._syncing.file.name} cannot be synced: {why}")
        self._syncing.ended()


def kernel_sync() -> KernelSync | None:
    """None where the system has no such thing, or none for us."""
    if sys.platform != "linux" or os.uname().machine not in _NUMBERS or sys.maxsize < 2**32:
        return None
    try:
        return KernelSync(LinuxKernel())
    except (OSError, AttributeError):  # AttributeError: a libc without eventfd, or an interpreter that is linked with none
        return None


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
