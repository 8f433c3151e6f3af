"""Who only reads waits neither for a tick nor for its batch; what is not written yet is told to nobody."""

from __future__ import annotations

from typing import Any

import pytest

from holdall import protocol
from holdall.bodies import Lifetime, encode
from holdall.protocol import Reply, Request
from holdall.worker.message import Answer, Message
from tests.core.test_expiry import TTL, stored
from tests.core.test_tick import NOW, Driver
from tests.nowhere import NOWHERE

A, B = b"\0client a", b"\0client b"
OLD, NEW = b"\x80old", b"\x80new"


def message(route: bytes, *requests: Request) -> Message:
    """What a client sends at once."""
    heads = [bytes(protocol.pack_request(each)[0]) for each in requests]
    if len(heads) == 1:
        return Message(NOWHERE, route, heads[0])
    body = encode(heads)
    batch = Request(protocol.BATCH, 0, requests[0].hash, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", body)
    return Message(NOWHERE, route, bytes(protocol.pack_request(batch)[0]))


def replies(answers: list[Answer]) -> list[Reply]:
    return [protocol.parse_reply(*each.frames) for each in answers]  # type: ignore[arg-type]


@pytest.fixture
def driver() -> Driver:
    made = Driver().registered()
    made.ask(protocol.PUT, b"sa", OLD)
    made.ask(protocol.PUT, b"sb", OLD)
    return made


def test_reads_are_answered_while_a_batch_is_written_but_none_of_what_is_in_it(driver: Driver) -> None:
    worker = driver.worker
    write = worker.begin([message(A, driver.request(protocol.PUT, b"sa", NEW))], NOW)
    assert write is not None
    other = message(B, driver.request(protocol.GET, b"sb"))
    same = message(b"\0client c", driver.request(protocol.GET, b"sa"))
    among = message(b"\0client d", driver.request(protocol.GET_MANY, value=encode([b"sa", b"sb"])))
    for called in (False, True):
        answers, left = worker.read([other, same, among], NOW)
        assert [each.payload for each in replies(answers)] == [OLD]
        assert left == [same, among]
        if not called:
            write()
    assert [each.status for each in replies(worker.end())] == [protocol.OK]
    answers, left = worker.read(left, NOW)
    assert [each.payload for each in replies(answers)] == [NEW, encode([NEW, OLD])]
    assert left == []


def test_what_its_writer_has_read_already_is_told_to_nobody_before_it_is_written(driver: Driver) -> None:
    worker = driver.worker
    own = message(A, driver.request(protocol.PUT, b"sa", NEW), driver.request(protocol.GET, b"sa"))
    assert worker.begin([own], NOW) is not None
    other = message(B, driver.request(protocol.GET, b"sa"))
    assert worker.read([other], NOW) == ([], [other])


def test_a_client_meets_its_requests_in_order(driver: Driver) -> None:
    put = message(A, driver.request(protocol.PUT, b"sa", NEW))
    get = message(A, driver.request(protocol.GET, b"sa"))
    others = message(B, driver.request(protocol.GET, b"sa"))
    answers, left = driver.worker.read([put, get, others], NOW)
    assert ([each.address for each in answers], left) == ([B], [put, get])
    assert [each.payload for each in replies(driver.worker.tick(left, NOW))] == [b"", NEW]


def test_a_batch_is_read_at_once_if_all_of_it_only_reads(driver: Driver) -> None:
    reads = message(A, driver.request(protocol.GET, b"sa"), driver.request(protocol.CONTAINS, b"sb"))
    mixed = message(B, driver.request(protocol.GET, b"sa"), driver.request(protocol.PUT, b"sb", NEW))
    answers, left = driver.worker.read([reads, mixed], NOW)
    assert ([each.address for each in answers], left) == ([A], [mixed])


@pytest.mark.parametrize("opcode", [protocol.GET, protocol.CONTAINS])
def test_a_read_that_notes_its_use_waits_until_that_is_written(opcode: int) -> None:
    driver = stored(TTL, b"sa")
    driver.wait(TTL / 2, sweeping=False)
    asked = message(A, driver.request(opcode, b"sa"))
    answers, left = driver.worker.read([asked], driver.wall)
    assert (answers, left) == ([], [asked])
    assert [each.status for each in replies(driver.worker.tick(left, driver.wall))] == [protocol.OK]
    assert driver.worker.statistics()["touches"] == 1
    answers, left = driver.worker.read([asked], driver.wall)
    assert (len(answers), left) == (1, [])


def test_a_read_that_finds_its_entry_expired_waits_until_no_power_cut_brings_it_back() -> None:
    driver = stored(TTL, b"sa")
    driver.wait(TTL * 1.02, sweeping=False)
    asked = message(A, driver.request(protocol.GET, b"sa"))
    answers, left = driver.worker.read([asked], driver.wall)
    assert (answers, left) == ([], [asked])
    assert [each.status for each in replies(driver.worker.tick(left, driver.wall))] == [protocol.MISSING]
    answers, left = driver.worker.read([asked], driver.wall)
    assert (len(answers), left) == (1, [])


@pytest.mark.parametrize(
    ("opcode", "value"),
    [(protocol.CLEAR, b""), (protocol.SET_TTL, encode(Lifetime(1.0, 2))), (protocol.DROP, b""), (protocol.LENGTH, b"")],
)
def test_what_changes_more_than_entries_is_written_while_nobody_reads(driver: Driver, opcode: int, value: Any) -> None:
    puts = message(A, driver.request(protocol.PUT, b"sa", NEW))
    assert driver.worker.may_read_meanwhile([puts])
    assert not driver.worker.may_read_meanwhile([puts, message(B, driver.request(opcode, value=value))])


def test_nobody_reads_while_a_batch_is_written_beside_a_snapshot(driver: Driver) -> None:
    puts = message(A, driver.request(protocol.PUT, b"sa", NEW))
    assert driver.ask(protocol.SNAPSHOT, b"k" * 16).status == protocol.OK
    assert not driver.worker.may_read_meanwhile([puts])
