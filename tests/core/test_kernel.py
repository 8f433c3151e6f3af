"""Syncs by the kernel: what failed is never taken for done, and what the kernel does not do is left to a thread."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from holdall.worker.journal_file import BLOCK_BYTES, DirectIOJournalFile, DiskJournalFile, opened_journal
from holdall.worker.kernel import KernelSync, Order, kernel_sync
from holdall.worker.store import Syncing
from holdall.worker.transaction import Commit, CommitFailed
from holdall.worker.writer import Writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such syncs")


@pytest.fixture(params=[False, True], ids=["through the page cache", "past it"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DiskJournalFile]:
    file = opened_journal(tmp_path / "journal", mostly_synced=request.param)
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


class FailingKernel:
    """One that has nothing to give, or whose disk fails: neither can be had here at will."""

    def __init__(self, *, refusal: OSError | None = None, result: int = 0) -> None:
        self.descriptor = os.eventfd(0)
        self._refusal = refusal
        self._result = result

    def submit(self, _order: Order) -> None:
        if self._refusal is not None:
            raise self._refusal
        os.eventfd_write(self.descriptor, 1)

    def result(self) -> int | None:
        return self._result


def test_a_sync_is_over_when_its_descriptor_says_so_and_only_then_counts(kernel: KernelSync, file: DiskJournalFile) -> None:
    ended: list[int] = []
    for number in range(20):
        file.stage(number, b"%c" % (65 + number))
        assert kernel.begin(Syncing(file, number, number + 1, lambda number=number: ended.append(number)))  # type: ignore[misc]
        before = kernel.has_ended
        select.select([kernel.descriptor], [], [])
        assert kernel.take() == ([], 0)
        assert (before, kernel.has_ended) == (False, True)
        assert ended == list(range(number))
        kernel.end()
        assert ended == list(range(number + 1))
    assert file.read()[:21] == b"ABCDEFGHIJKLMNOPQRST\0"
    assert select.select([kernel.descriptor], [], [], 0) == ([], [], [])


def test_a_signal_that_comes_late_does_not_wake_the_loop_for_ever(kernel: KernelSync, file: DiskJournalFile) -> None:
    file.stage(0, b"v")
    assert kernel.begin(Syncing(file, 0, 1, lambda: None))
    kernel.end()
    os.eventfd_write(kernel.descriptor, 1)
    kernel.take()
    assert kernel.has_ended
    assert select.select([kernel.descriptor], [], [], 0) == ([], [], [])


def test_who_ends_a_sync_waits_for_it(kernel: KernelSync, file: DiskJournalFile) -> None:
    ended: list[None] = []
    for _ in range(20):
        assert kernel.begin(Syncing(file, 0, 1, lambda: ended.append(None)))
        kernel.end()
    assert len(ended) == 20


def test_several_blocks_are_written_by_one_order(kernel: KernelSync, file: DiskJournalFile) -> None:
    data = os.urandom(3 * BLOCK_BYTES)
    file.stage(BLOCK_BYTES - 10, data)
    assert kernel.begin(Syncing(file, BLOCK_BYTES - 10, BLOCK_BYTES - 10 + len(data), lambda: None))
    kernel.end()
    assert file.read()[: 5 * BLOCK_BYTES] == (bytes(BLOCK_BYTES - 10) + data).ljust(5 * BLOCK_BYTES, b"\0")


def test_what_is_no_sync_of_a_file_and_what_the_kernel_cannot_sync_is_left_to_a_thread(
    kernel: KernelSync, tmp_path: Path
) -> None:
    assert not kernel.begin(never)
    with closing(DiskJournalFile(tmp_path / "journal")) as file:
        pipe = os.pipe()
        os.dup2(pipe[1], file._descriptor)
        assert not kernel.begin(Syncing(file, 0, 1, never))
    for descriptor in pipe:
        os.close(descriptor)


@pytest.mark.parametrize("refusal", [errno.EAGAIN, errno.ENOSYS, errno.EINVAL])
def test_a_kernel_that_refuses_leaves_it_to_a_thread(refusal: int, file: DiskJournalFile) -> None:
    woken, synced = os.pipe(), list[None]()
    writer = Writer(lambda: os.close(woken[1]), KernelSync(FailingKernel(refusal=OSError(refusal, "refused"))))
    file.stage(0, b"v")
    writer.begin(Commit(Syncing(file, 0, 1, lambda: synced.append(None))))
    assert writer.is_thread_busy
    assert os.read(woken[0], 1) == b""
    assert writer.has_ended
    writer.end()
    assert (synced, writer.is_busy, writer.is_thread_busy) == ([None], False, False)
    assert file.read()[:1] == b"v"


@pytest.mark.parametrize(("result", "why"), [(-errno.EIO, "Input/output error"), (512, "512 of [0,4096]+ bytes were written")])
def test_a_sync_that_failed_is_an_error(result: int, why: str, file: DiskJournalFile) -> None:
    writer = Writer(never, KernelSync(FailingKernel(result=result)))
    writer.begin(Commit(Syncing(file, 0, 1, never)))
    assert not writer.is_thread_busy
    with pytest.raises(CommitFailed, match=f"the journal .* cannot be synced: {why}"):
        writer.end()
    assert not writer.is_busy


def test_an_error_that_the_kernel_tells_later_is_one(kernel: KernelSync, direct: DirectIOJournalFile) -> None:
    direct.stage(0, b"v")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        assert kernel.begin(Syncing(direct, 0, 1, never))
        with pytest.raises(CommitFailed, match=r"the journal .* cannot be synced: File too large"):
            kernel.end()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert direct.read()[:1] == b"\0"


def none_of_it(*_arguments: object) -> int:
    return -1


@pytest.mark.parametrize(
    "refuses",
    [
        lambda libc: setattr(libc, "syscall", none_of_it),
        lambda libc: setattr(libc, "eventfd", none_of_it),
        lambda libc: delattr(libc, "eventfd"),
    ],
    ids=["io_setup fails", "eventfd fails", "libc has no eventfd"],
)
def test_where_the_system_has_nothing_to_give_there_is_none(
    refuses: Callable[[SimpleNamespace], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    libc = SimpleNamespace(syscall=lambda *_arguments: 0, eventfd=lambda *_arguments: 0)
    refuses(libc)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_arguments, **_settings: libc)
    assert kernel_sync() is None


def test_on_a_machine_whose_numbers_are_not_known_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="m68k"))
    assert kernel_sync() is None
