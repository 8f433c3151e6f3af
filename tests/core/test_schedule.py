"""What a worker does next: who waits for a batch that is being written, and what is due when."""

from __future__ import annotations

from typing import Any

import pytest

from holdall import protocol
from holdall.errors import StorageError
from holdall.protocol import Reply
from holdall.worker.core import Worker
from holdall.worker.message import Answer, Message
from holdall.worker.schedule import DELAYED_MAX, FLUSH_SECONDS, HELLO_SECONDS, SHARED_SECONDS, Schedule
from holdall.worker.state.transaction import Commit, CommitFailed, format_store
from holdall.worker.store.store import Changes
from tests.core.test_read import message
from tests.core.test_tick import DICT, Driver
from tests.memory_files import MemoryFiles
from tests.memory_store import MemoryStore
from tests.nowhere import NOWHERE
from tests.registration import registration

A, B, C = b"\0client a", b"\0client b", b"\0client c"
OLD, NEW = b"\x80old", b"\x80new"
HELLO = Answer(NOWHERE, b"", [b"hello"])


class Failing(MemoryStore):
    """Can be told to fail."""

    failures = 0

    def write(self, changes: Changes, sync: bool) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageError("no space left")
        super().write(changes, sync)


class Scheduled:
    """A schedule over a store in memory, at a time that the test sets."""

    def __init__(self, sync: Any = "always") -> None:
        self.store = Failing()
        format_store(self.store)
        self.opened = 0
        self.now = 0.0
        self.no_room = ""
        self.driver = Driver()  # which numbers requests
        self.schedule = Schedule(lambda: self._open(sync), sync, lambda _worker: HELLO, lambda: self.no_room)
        self.ask(A, self.driver.request(protocol.REGISTER, value=registration(DICT)))
        for key in (b"sa", b"sb"):
            self.ask(A, self.driver.request(protocol.PUT, key, OLD))

    def _open(self, sync: Any) -> Worker:
        self.opened += 1
        return Worker(self.store, 0, 1, sync=sync == "always", files=MemoryFiles())

    def turn(self, *messages: Message) -> tuple[list[Answer], Commit | None]:
        size = sum(len(each.head) for each in messages)
        turn = self.schedule.turn(list(messages), size, self.now, 1e6 + self.now)
        return turn.answers, turn.commit

    def ask(self, client: bytes, *requests: Any) -> list[Reply]:
        """The answers to one message, whose batch is written at once."""
        answers, commit = self.turn(message(client, *requests))
        if commit is not None:
            commit()
            answers += self.schedule.written(None, 1e6 + self.now)
        return told(answers)

    def put(self, client: bytes, key: bytes = b"sa", value: bytes = NEW) -> Message:
        return message(client, self.driver.request(protocol.PUT, key, value))

    def get(self, client: bytes, key: bytes = b"sa") -> Message:
        return message(client, self.driver.request(protocol.GET, key))

    def writing(self) -> Commit:
        """A batch that B has put NEW with, which is to be written by a thread: A was heard just before."""
        _answers, commit = self.turn(self.get(A, b"sb"), self.put(B))
        assert commit is not None
        return commit


def told(answers: list[Answer]) -> list[Reply]:
    return [protocol.parse_reply(*each.frames) for each in answers if each is not HELLO]  # type: ignore[arg-type]


def test_one_client_alone_has_its_batch_written_at_once() -> None:
    scheduled = Scheduled()
    answers, commit = scheduled.turn(scheduled.put(A))
    assert (commit, [each.status for each in told(answers)]) == (None, [protocol.OK])


@pytest.mark.parametrize(("seconds", "by_a_thread"), [(0.5 * SHARED_SECONDS, True), (1.5 * SHARED_SECONDS, False)])
def test_a_batch_is_written_by_a_thread_while_two_clients_are_heard(seconds: float, by_a_thread: bool) -> None:
    scheduled = Scheduled()
    scheduled.turn(scheduled.get(B))
    scheduled.now += seconds
    _answers, commit = scheduled.turn(scheduled.put(B))
    assert (commit is not None) == by_a_thread


@pytest.mark.parametrize("sync", ["interval", "off"])
def test_without_a_sync_no_thread_is_needed(sync: str) -> None:
    scheduled = Scheduled(sync)
    scheduled.turn(scheduled.get(B))
    _answers, commit = scheduled.turn(scheduled.put(A))
    assert commit is None


def test_while_a_batch_is_written_others_read_and_what_its_rows_concern_waits() -> None:
    scheduled = Scheduled()
    commit = scheduled.writing()
    answers, _ = scheduled.turn(scheduled.get(A, b"sb"), scheduled.get(C, b"sa"), scheduled.put(A, b"sb"))
    assert [each.payload for each in told(answers)] == [OLD]
    commit()
    assert [each.status for each in told(scheduled.schedule.written(None, 1e6))] == [protocol.OK]
    answers, again = scheduled.turn()
    assert [each.payload for each in told(answers)] == [NEW]
    assert again is not None  # the put of A


def test_what_a_client_sends_behind_a_request_that_waits_waits_too() -> None:
    scheduled = Scheduled()
    commit = scheduled.writing()
    answers, _ = scheduled.turn(scheduled.put(A, b"sb"))
    assert answers == []
    answers, _ = scheduled.turn(scheduled.get(A, b"sb"))
    assert answers == []
    commit()
    scheduled.schedule.written(None, 1e6)
    answers, again = scheduled.turn()
    assert again is not None
    again()
    replies = told(answers + scheduled.schedule.written(None, 1e6))
    assert [each.payload for each in replies] == [b"", NEW]


def test_so_many_messages_may_wait_and_no_more() -> None:
    scheduled = Scheduled()
    scheduled.writing()
    for count in (DELAYED_MAX - 1, 1):
        assert not scheduled.schedule.is_full
        scheduled.turn(*[scheduled.put(A)] * count)
    assert scheduled.schedule.is_full


def test_a_worker_whose_write_never_ends_says_no_hello() -> None:
    scheduled = Scheduled()
    commit = scheduled.writing()
    for _ in range(10):
        scheduled.now += HELLO_SECONDS
        assert HELLO not in scheduled.turn()[0]
    commit()
    scheduled.schedule.written(None, 1e6)
    assert HELLO in scheduled.turn()[0]


def test_a_hello_is_due_twice_a_second_whoever_asks() -> None:
    scheduled = Scheduled()
    hellos = 0
    for _ in range(100):
        scheduled.now += HELLO_SECONDS / 10
        hellos += scheduled.turn(scheduled.get(A))[0].count(HELLO)
    assert hellos in (9, 10)  # times are floats


@pytest.mark.parametrize("by_a_thread", [False, True])
def test_what_could_not_be_written_is_decided_again_over_the_store_opened_anew(by_a_thread: bool) -> None:
    scheduled = Scheduled()
    scheduled.store.failures = 1
    if by_a_thread:
        commit = scheduled.writing()
        with pytest.raises(CommitFailed) as failed:
            commit()
        answers = scheduled.schedule.written(failed.value, 1e6)
    else:
        answers, _ = scheduled.turn(scheduled.put(A))
    assert ([each.status for each in told(answers)], scheduled.opened) == ([protocol.OK], 2)
    assert [each.payload for each in scheduled.ask(A, scheduled.driver.request(protocol.GET, b"sa"))] == [NEW]


def test_what_cannot_be_written_twice_is_refused_and_the_worker_goes_on() -> None:
    scheduled = Scheduled()
    scheduled.store.failures = 2
    answers, _ = scheduled.turn(scheduled.put(A))
    assert [(each.status, bytes(each.payload)) for each in told(answers)] == [
        (protocol.STORAGE, b"no space left; whether it happened is unknown")
    ]
    assert [each.payload for each in scheduled.ask(A, scheduled.driver.request(protocol.GET, b"sa"))] == [OLD]


def test_without_a_sync_everything_is_flushed_once_a_second() -> None:
    scheduled = Scheduled("interval")
    scheduled.now += 2 * FLUSH_SECONDS
    scheduled.turn()
    scheduled.turn(scheduled.put(A))
    assert scheduled.store.unsynced
    end = scheduled.now + FLUSH_SECONDS
    while scheduled.schedule.due <= end:
        scheduled.now = max(scheduled.now, scheduled.schedule.due) + 0.001
        scheduled.turn()
    assert not scheduled.store.unsynced


def test_values_are_refused_while_the_disk_has_no_room_and_taken_again_when_it_has() -> None:
    scheduled = Scheduled()
    for why, status in (("the disk is full", protocol.NO_ROOM), ("", protocol.OK)):
        scheduled.no_room = why
        scheduled.now += HELLO_SECONDS
        scheduled.turn()
        assert [each.status for each in scheduled.ask(A, scheduled.driver.request(protocol.PUT, b"sa", NEW))] == [status]


def test_at_the_end_all_who_wait_are_answered() -> None:
    scheduled = Scheduled()
    commit = scheduled.writing()
    scheduled.turn(scheduled.put(A, b"sb"))
    commit()
    scheduled.schedule.written(None, 1e6)
    assert [each.status for each in told(scheduled.schedule.finish(1e6))] == [protocol.OK]
    assert not scheduled.store.unsynced
