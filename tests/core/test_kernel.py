"""Syncs by the kernel: what failed is never taken for done, and what the kernel does not do is left to a thread."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall.worker.journal_file import DiskJournalFile
from holdall.worker.kernel import KernelSync, kernel_sync
from holdall.worker.store import Syncing
from holdall.worker.transaction import Commit, CommitFailed
from holdall.worker.writer import Writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such syncs")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DiskJournalFile]:
    file = DiskJournalFile(tmp_path / "journal")
    yield file
    file.close()


@pytest.fixture
def kernel() -> KernelSync:
    kernel = kernel_sync()
    if kernel is None:
        pytest.skip("this kernel has no asynchronous syncs")
    return kernel


def never() -> None:
    pytest.fail("nothing was synced")


class Refusing:
    """A kernel that has nothing to give, or whose disk fails: neither can be had here at will."""

    def __init__(self, *, refusal: Exception | None = None, result: int = 0) -> None:
        self.fileno = os.eventfd(0)
        self._refusal = refusal
        self._result = result
        self._callback: Callable[[int], None] | None = None

    def fdsync(self, _descriptor: int) -> Refusing:
        return self

    def set_callback(self, callback: Callable[[int], None]) -> None:
        self._callback = callback

    def submit(self, _operation: Refusing) -> None:
        if self._refusal is not None:
            raise self._refusal
        os.eventfd_write(self.fileno, 1)

    def poll(self) -> None:
        os.eventfd_read(self.fileno)

    def process_events(self) -> None:
        assert self._callback is not None
        self._callback(self._result)


def test_a_sync_is_over_when_its_descriptor_says_so_and_only_then_counts(kernel: KernelSync, file: DiskJournalFile) -> None:
    ended: list[int] = []
    for number in range(20):
        file.write(0, b"%d" % number)
        assert kernel.begin(Syncing(file, lambda number=number: ended.append(number)))  # type: ignore[misc]
        before = kernel.has_ended
        select.select([kernel.descriptor], [], [])
        assert kernel.take() == ([], 0)
        assert (before, kernel.has_ended) == (False, True)
        assert ended == list(range(number))
        kernel.end()
        assert ended == list(range(number + 1))


def test_who_ends_a_sync_waits_for_it(kernel: KernelSync, file: DiskJournalFile) -> None:
    ended: list[None] = []
    for _ in range(20):
        assert kernel.begin(Syncing(file, lambda: ended.append(None)))
        kernel.end()
    assert len(ended) == 20


def test_what_is_no_sync_of_a_file_and_what_the_kernel_cannot_sync_is_left_to_a_thread(
    kernel: KernelSync, file: DiskJournalFile
) -> None:
    assert not kernel.begin(never)
    file.close()
    file.descriptor, other = os.pipe()
    assert not kernel.begin(Syncing(file, never))
    os.close(other)


@pytest.mark.parametrize("refusal", [OverflowError("EAGAIN"), SystemError(errno.ENOSYS), ValueError("EINVAL"), OSError()])
def test_a_kernel_that_refuses_leaves_it_to_a_thread(refusal: Exception, file: DiskJournalFile) -> None:
    refusing, woken, synced = Refusing(refusal=refusal), os.pipe(), list[None]()
    writer = Writer(lambda: os.close(woken[1]), KernelSync(refusing, refusing.fdsync))
    writer.begin(Commit(Syncing(file, lambda: synced.append(None))))
    assert os.read(woken[0], 1) == b""
    assert writer.has_ended
    writer.end()
    assert (synced, writer.is_busy) == ([None], False)


@pytest.mark.parametrize("result", [-errno.EIO, 2**64 - errno.EIO])
def test_a_sync_that_failed_is_an_error_however_it_is_told(result: int, file: DiskJournalFile) -> None:
    failing = Refusing(result=result)
    writer = Writer(never, KernelSync(failing, failing.fdsync))
    writer.begin(Commit(Syncing(file, never)))
    with pytest.raises(CommitFailed, match=r"the journal .* cannot be synced: Input/output error"):
        writer.end()
    assert not writer.is_busy


def raising(error: Exception) -> Callable[..., Any]:
    def call(**_settings: Any) -> Any:
        raise error

    return call


def test_without_caio_or_a_kernel_that_lets_us_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    caio = pytest.importorskip("caio")
    with monkeypatch.context() as patched:
        patched.setattr(caio.linux_aio, "Context", raising(SystemError(errno.EAGAIN, "no more contexts")))
        assert kernel_sync() is None
    with monkeypatch.context() as patched:
        patched.setattr(caio, "linux_aio", None)
        assert kernel_sync() is None
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "caio", None)
        assert kernel_sync() is None
