"""A worker's core against a plain dict, and what it promises about retries, batches and crashes."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from holdall import protocol
from holdall.blob import BLOB_BYTES_MIN
from holdall.bodies import Page, PageRequest, Update, decode, encode
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS, dict_crc, key_hash, part_hash
from holdall.worker.core import Worker
from holdall.worker.handlers.entries import PAGE_BYTES_MAX
from holdall.worker.message import Message
from holdall.worker.state import sessions
from holdall.worker.state.sessions import SESSION_SECONDS
from holdall.worker.state.transaction import format_store
from tests.memory_files import MemoryFiles
from tests.memory_store import MemoryStore
from tests.nowhere import NOWHERE
from tests.registration import leased, registration
from tests.simulation.trace import is_batch_reply

DICT = b"d" * 16
SESSION = b"s" * 16
NOW = 1_000_000.0


class Driver:
    """One worker that owns all slots, over a store in memory, and one client's numbering."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        if store is None:
            format_store(self.store)
        self.worker = Worker(self.store, 0, 1, sync=True, files=MemoryFiles())
        self.sequence = 0

    def request(self, opcode: int, key: bytes = b"", value: bytes = b"", flags: int = 0, **numbers: Any) -> Request:
        self.sequence += 1
        fields = {"session": SESSION, "sequence": self.sequence, "lowest": self.sequence, "dict_id": DICT, **numbers}
        hash_ = part_hash(0, SLOTS) if opcode in protocol.PARTS else key_hash(dict_crc(DICT), key)
        return Request(opcode, flags, hash_, key=key, value=value, **fields)

    def tick(self, *requests: Request, now: float = NOW) -> list[Reply]:
        messages = [Message(NOWHERE, b"\0route", *protocol.pack_request(each)) for each in requests]  # type: ignore[arg-type]
        return [protocol.parse_reply(*each.frames) for each in self.worker.tick(messages, now)]  # type: ignore[arg-type]

    def ask(self, opcode: int, key: bytes = b"", value: bytes = b"", flags: int = 0) -> Reply:
        return self.tick(self.request(opcode, key, value, flags))[0]

    def registered(self) -> Driver:
        assert self.ask(protocol.REGISTER, value=registration(DICT)).status == protocol.OK
        return self

    def reopened(self) -> Driver:
        again = Driver(self.store)
        again.sequence = self.sequence
        return again


keys = st.sampled_from([b"sa", b"sb", b"sc", b"i\x01"])
values = st.binary(max_size=5).map(lambda data: b"\x80" + data)
operations = st.one_of(
    st.tuples(st.just(protocol.PUT), keys, values, st.sampled_from([0, protocol.SKIP_IF_EXISTS])),
    st.tuples(st.sampled_from([protocol.GET, protocol.POP, protocol.CONTAINS]), keys, st.just(b""), st.just(0)),
    st.tuples(st.sampled_from([protocol.CLEAR, protocol.LENGTH]), st.just(b""), st.just(b""), st.just(0)),
)


def expected(model: dict[bytes, bytes], opcode: int, key: bytes, value: bytes, flags: int) -> tuple[int, bytes]:
    """What a plain dict answers."""
    found = model.get(key)
    if opcode == protocol.PUT:
        if flags and found is not None:
            return protocol.EXISTS, b""
        model[key] = value
    elif opcode == protocol.CLEAR:
        model.clear()
    elif opcode == protocol.LENGTH:
        return protocol.OK, encode(len(model))
    elif found is None:
        return protocol.MISSING, b""
    elif opcode == protocol.POP:
        return protocol.OK, model.pop(key)
    elif opcode == protocol.GET:
        return protocol.OK, found
    return protocol.OK, b""


@settings(max_examples=100)
@given(st.lists(st.lists(operations, max_size=6), max_size=8), st.booleans())
def test_ticks_of_requests_answer_as_a_plain_dict_does(ticks: list[list[Any]], reopen: bool) -> None:
    driver, model = Driver().registered(), dict[bytes, bytes]()
    for operations in ticks:
        replies = driver.tick(*(driver.request(*operation) for operation in operations))
        answers = [(reply.status, bytes(reply.payload)) for reply in replies]
        assert answers == [expected(model, *operation) for operation in operations]
        while driver.worker.sweep(NOW):
            pass
        if reopen:
            driver.store.crash()
            driver = driver.reopened()
    page = decode(Page, driver.ask(protocol.PAGE, value=encode(PageRequest(b"", 100)), flags=protocol.WITH_VALUES).payload)
    assert {key: value for key, _key_object, value in page.entries} == model


@given(st.lists(st.binary(max_size=100), max_size=5), st.none() | st.binary(max_size=50), st.integers(0, 255))
def test_arbitrary_messages_are_answered_and_never_raise(heads: list[bytes], payload: bytes | None, opcode: int) -> None:
    driver = Driver().registered()
    valid = protocol.REQUEST.pack(protocol.VERSION, opcode, 0, 0, SESSION, 7, 7, DICT, 0)
    source: Any = SimpleNamespace(passes_files=False)  # as the broker's uplink
    messages = [Message(source, b"\0route", head, payload) for head in [*heads, *(valid + head for head in heads)]]
    answers = driver.worker.tick(messages, NOW)
    assert len(answers) >= len([each for each in messages if each.head[1:2] != bytes([protocol.BATCH])])
    for answer in answers:
        protocol.parse_reply(*answer.frames)  # type: ignore[arg-type]
    expected = protocol.DICT_NOT_FOUND if opcode == protocol.DROP and b"" in heads and payload is None else protocol.OK
    assert driver.ask(protocol.LENGTH).status in (expected, protocol.OK)


@pytest.mark.parametrize("after_crash", [False, True])
def test_a_retried_pop_returns_the_first_outcome(after_crash: bool) -> None:
    driver = Driver().registered()
    driver.ask(protocol.PUT, b"sk", b"v")
    pop = driver.request(protocol.POP, b"sk")
    first = driver.tick(pop)
    if after_crash:
        driver.store.crash()
        driver = driver.reopened()
    assert driver.tick(replace(pop, flags=protocol.RETRY)) == first
    assert (first[0].status, bytes(first[0].payload)) == (protocol.OK, b"v")


def test_a_retried_put_does_not_undo_somebody_elses_newer_value() -> None:
    driver = Driver().registered()
    mine = driver.request(protocol.PUT, b"sk", b"1")
    driver.tick(mine)
    driver.tick(driver.request(protocol.PUT, b"sk", b"2", session=b"t" * 16))
    driver.tick(replace(mine, flags=protocol.RETRY))
    assert bytes(driver.ask(protocol.GET, b"sk").payload) == b"2"


def test_a_retry_in_the_same_tick_happens_once() -> None:
    driver = Driver().registered()
    put = driver.request(protocol.PUT, b"sk", b"v", protocol.SKIP_IF_EXISTS)
    assert [reply.status for reply in driver.tick(put, put)] == [protocol.OK, protocol.OK]


def test_a_large_outcome_is_kept_through_a_crash_and_goes_when_its_client_moves_on() -> None:
    driver = Driver().registered()
    driver.ask(protocol.PUT, b"sk", b"v" * 5000)
    pop = driver.request(protocol.POP, b"sk")
    driver.tick(pop)
    driver.store.crash()
    driver = driver.reopened()
    assert bytes(driver.tick(pop)[0].payload) == b"v" * 5000
    driver.ask(protocol.PUT, b"sother", b"")
    assert not [row for row, _value in driver.store.scan(b"O") if row.startswith(b"O")]


@pytest.mark.parametrize("reopens", [False, True])
def test_the_outcomes_of_all_sessions_have_a_bound_which_each_client_can_leave(
    monkeypatch: pytest.MonkeyPatch, reopens: bool
) -> None:
    monkeypatch.setattr(sessions, "OUTCOMES_BYTES_MAX", 200 * sessions.OUTCOME_BYTES)
    driver = Driver().registered()
    ids = [bytes([number]) * 16 for number in range(1, 11)]

    def puts(session: bytes, sequences: Iterable[int], lowest: int) -> list[int]:
        asked = [driver.request(protocol.PUT, b"sk", session=session, sequence=each, lowest=lowest) for each in sequences]
        return [reply.status for reply in driver.tick(*asked)]

    statuses = [status for session in ids for status in puts(session, range(1, 31), lowest=1)]
    done = statuses.count(protocol.OK)
    assert 190 <= done < 210
    assert statuses.count(protocol.UNAVAILABLE) == 300 - done
    driver = driver.reopened() if reopens else driver
    assert puts(ids[0], [31], lowest=1) == [protocol.UNAVAILABLE]
    assert puts(ids[0], [1, 30], lowest=1) == [protocol.OK] * 2  # these are remembered
    assert puts(b"new" + bytes(13), [1], lowest=1) == [protocol.UNAVAILABLE]
    assert puts(ids[5], [31], lowest=31) == [protocol.OK]
    assert puts(b"new" + bytes(13), [1], lowest=1) == [protocol.OK]
    assert puts(ids[0], [31, 32], lowest=31) == [protocol.OK] * 2


@pytest.mark.parametrize("of", ["sessions", "outcomes"])
def test_when_too_much_is_remembered_the_oldest_is_forgotten_after_a_minute_and_no_retry_happens_twice(
    monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    monkeypatch.setattr(
        sessions, "SESSIONS_MAX" if of == "sessions" else "OUTCOMES_BYTES_MAX", 20 if of == "sessions" else 4_000
    )
    driver = Driver().registered()

    def put(number: int, sequence: int = 1, flags: int = 0, now: float = NOW) -> int:
        session, key = bytes([number]) * 16, b"s%d" % number
        value = b"v%d" % sequence
        request = driver.request(protocol.PUT, key, value, flags, session=session, sequence=sequence, lowest=1)
        return driver.tick(request, now=now)[0].status

    def wait(seconds: int, since: int) -> None:
        for second in range(since, since + seconds):
            driver.worker.sweep(NOW + second)

    statuses = [put(number) for number in range(1, 25)]
    assert 18 <= statuses.count(protocol.OK) <= 19
    assert put(24) == protocol.UNAVAILABLE
    wait(50, 0)
    assert put(24, now=NOW + 50) == protocol.UNAVAILABLE
    wait(20, 50)
    assert put(24, now=NOW + 70) == protocol.OK
    assert put(1, 1, protocol.RETRY, NOW + 70) == protocol.FORGOTTEN
    assert put(1, 3, now=NOW + 70) == protocol.OK
    assert driver.ask(protocol.GET, b"s1").payload == b"v3"
    wait(SESSION_SECONDS + 10, 70)
    assert put(2, 9, protocol.RETRY, NOW + SESSION_SECONDS + 80) == protocol.OK


def test_a_large_outcome_counts_whole_and_none_is_added_when_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver().registered()
    driver.ask(protocol.PUT, b"sk", b"v" * 5_000)
    monkeypatch.setattr(sessions, "OUTCOMES_BYTES_MAX", 40_000)
    asked = [driver.request(protocol.SET_DEFAULT, b"sk", b"w", lowest=3) for _ in range(20)]
    statuses = [reply.status for reply in driver.tick(*asked)]
    assert statuses == [protocol.EXISTS] * 8 + [protocol.UNAVAILABLE] * 12
    assert [reply.payload for reply in driver.reopened().tick(asked[7])] == [b"v" * 5_000]
    driver = driver.reopened()
    assert driver.tick(asked[8])[0].status == protocol.UNAVAILABLE
    monkeypatch.setattr("holdall.worker.handlers.entries.REMEMBERED_BYTES_MAX", 30_000)
    driver.worker.refuse_values("the disk is full")
    driver.sequence = 2
    assert (
        driver.tick(driver.request(protocol.SET_DEFAULT, b"sk", b"w", lowest=3))[0].status == protocol.EXISTS
    )  # as remembered
    driver.sequence = 30
    monkeypatch.setattr(sessions, "OUTCOMES_BYTES_MAX", 1 << 30)
    assert driver.tick(driver.request(protocol.SET_DEFAULT, b"sk", b"w", session=b"t" * 16))[0].status == protocol.NO_ROOM
    assert driver.ask(protocol.POP, b"sk").payload == b"v" * 5_000


def test_a_number_far_ahead_keeps_no_outcomes_while_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "OUTCOMES_BYTES_MAX", 20 * sessions.OUTCOME_BYTES)
    driver = Driver().registered()
    driver.tick(driver.request(protocol.POP, b"sk", sequence=1 << 63, lowest=3))
    asked = [driver.request(protocol.POP, b"sk", sequence=number, lowest=number) for number in range(4, 500)]
    assert {reply.status for reply in driver.tick(*asked)} == {protocol.MISSING}
    [row] = driver.worker._transaction.sessions._rows.values()
    assert len(row.outcomes) <= 21


def test_what_is_cleared_without_end_waits_and_all_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.worker.state.dicts.LEFT_MAX", 50)
    driver = Driver().registered()
    assert {driver.ask(protocol.CLEAR).status for _ in range(200)} == {protocol.OK}  # there is nothing in it
    assert not [row for row, _value in driver.store.scan(b"G") if row[:1] == b"G"]
    statuses = [
        status for _ in range(60) for status in (driver.ask(protocol.PUT, b"sk").status, driver.ask(protocol.CLEAR).status)
    ]
    assert statuses.count(protocol.UNAVAILABLE) == 10
    assert driver.ask(protocol.DROP).status == protocol.UNAVAILABLE
    steps = 0
    while driver.worker.sweep(NOW):
        steps += 1
    assert steps < 20
    assert driver.ask(protocol.CLEAR).status == protocol.OK
    assert driver.ask(protocol.LENGTH).payload == encode(0)
    assert driver.ask(protocol.DROP).status == protocol.OK
    while driver.worker.sweep(NOW):
        pass
    assert not [row for row, _value in driver.store.scan(b"E") if row[:1] in (b"E", b"G")]


def test_on_a_full_disk_dicts_can_be_deleted_and_read_and_nobody_makes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.worker.handlers.entries.TOMBSTONES_FULL_MAX", 3)
    driver = Driver().registered()
    driver.worker.refuse_values("the disk is full")
    other, ephemeral = b"o" * 16, b"\x80" + b"e" * 15

    def asked(dict_id: bytes, opcode: int, value: bytes = b"") -> int:
        return driver.tick(driver.request(opcode, value=value, dict_id=dict_id))[0].status

    assert asked(ephemeral, protocol.REGISTER, leased()) == protocol.NO_ROOM
    assert asked(other, protocol.REGISTER, registration(other)) == protocol.OK
    unknown = [bytes([number]) * 16 for number in range(1, 6)]
    assert [asked(each, protocol.DROP) for each in unknown] == [protocol.OK] * 3 + [protocol.NO_ROOM] * 2
    assert asked(DICT, protocol.DROP) == asked(other, protocol.CLEAR) == protocol.OK


def test_the_row_of_a_session_stays_small_whatever_its_outcomes_are() -> None:
    driver = Driver().registered()
    driver.ask(protocol.PUT, b"sk", b"v" * 1_000)
    asked = [driver.request(protocol.SET_DEFAULT, b"sk", b"w", lowest=3) for _ in range(500)]
    assert {reply.status for reply in driver.tick(*asked)} == {protocol.EXISTS}
    [row] = [value for row, value in driver.store.scan(b"S") if row[:1] == b"S"]
    assert len(row) < 100_000
    assert {bytes(reply.payload) for reply in driver.reopened().tick(*asked)} == {b"v" * 1_000}
    driver.ask(protocol.PUT, b"sother", b"")
    assert not [row for row, _value in driver.store.scan(b"O") if row.startswith(b"O")]


def test_a_write_below_the_lowest_pending_number_is_refused() -> None:
    driver = Driver().registered()
    late = driver.request(protocol.PUT, b"sk", b"late")
    driver.ask(protocol.PUT, b"sother", b"")
    assert driver.tick(late)[0].status == protocol.FORGOTTEN
    assert driver.ask(protocol.GET, b"sk").status == protocol.MISSING


def test_a_session_is_forgotten_after_the_horizon_and_not_before() -> None:
    driver = Driver().registered()
    for second in range(SESSION_SECONDS):
        driver.worker.sweep(NOW + second)
    assert [row for row, _value in driver.store.scan(b"S") if row[:1] == b"S"]
    for second in range(SESSION_SECONDS, SESSION_SECONDS + 3):
        driver.worker.sweep(NOW + second)
    assert not [row for row, _value in driver.store.scan(b"S") if row[:1] == b"S"]


def test_a_clock_that_jumps_forgets_no_session() -> None:
    driver = Driver().registered()
    for jump in (30 * 86_400, -86_400, 2 * 86_400):
        driver.worker.sweep(NOW + jump)
    assert [row for row, _value in driver.store.scan(b"S") if row[:1] == b"S"]


def test_the_requests_of_a_batch_are_answered_one_by_one() -> None:
    driver = Driver().registered()
    puts = [driver.request(protocol.PUT, b"sk%d" % number, b"v", lowest=1) for number in range(3)]
    body = encode([protocol.pack_request(put)[0] for put in puts] + [b"garbage"])
    head = protocol.pack_request(driver.request(protocol.BATCH, value=body))[0]
    answers = driver.worker.tick([Message(NOWHERE, b"\0route", bytes(head))], NOW)
    assert is_batch_reply(bytes(answers[0].frames[0]))
    replies = [
        protocol.parse_reply(each) for each in decode(list[bytes], protocol.parse_reply(bytes(answers[0].frames[0])).payload)
    ]
    assert [reply.status for reply in replies] == [protocol.OK] * 3 + [protocol.MALFORMED]
    assert [reply.sequence for reply in replies[:3]] == [put.sequence for put in puts]


def test_pages_give_each_key_once_while_others_come_and_go() -> None:
    driver = Driver().registered()
    stays = {b"s%03d" % number for number in range(0, 100, 2)}
    for key in stays:
        driver.ask(protocol.PUT, key, b"")
    seen: list[bytes] = []
    after = None
    while after != b"":
        page = decode(Page, driver.ask(protocol.PAGE, value=encode(PageRequest(after or b"", 7))).payload)
        seen += [key for key, _key_object, _value in page.entries]
        after = page.more
        driver.ask(protocol.PUT, b"s%03d" % (len(seen) * 2 - 1), b"")
        driver.ask(protocol.POP, b"s%03d" % (len(seen) * 2 - 3))
    assert stays <= set(seen)
    assert len(seen) == len(set(seen))


def test_a_request_for_another_workers_slot_is_sent_back() -> None:
    store = MemoryStore()
    format_store(store)
    worker = Worker(store, 0, 2, sync=True, files=MemoryFiles())
    request = Request(protocol.GET, 0, part_hash(1023, SLOTS), SESSION, 1, 1, DICT, b"sk", b"")
    answers = worker.tick([Message(NOWHERE, b"\0route", *protocol.pack_request(request))], NOW)  # type: ignore[arg-type]
    assert protocol.parse_reply(*answers[0].frames).status == protocol.WRONG_WORKER  # type: ignore[arg-type]


@pytest.mark.parametrize("opcode", sorted(protocol.PARTS))
def test_a_request_from_the_roster_of_another_layout_is_sent_back_and_changes_nothing(opcode: int) -> None:
    driver = Driver().registered()
    driver.ask(protocol.PUT, b"sk", b"v")
    for first, end in ((0, SLOTS // 2), (SLOTS // 2, SLOTS)):
        request = replace(driver.request(opcode, value=encode([(b"sk", None, b"w")])), hash=part_hash(first, end))
        assert driver.tick(request)[0].status == protocol.WRONG_WORKER
    assert bytes(driver.ask(protocol.GET, b"sk").payload) == b"v"


def test_the_same_number_with_another_request_gets_the_first_outcome_and_changes_nothing() -> None:
    driver = Driver().registered()
    first = driver.request(protocol.PUT, b"sk", b"1")
    outcome = driver.tick(first)
    for other in (replace(first, value=b"2"), replace(first, opcode=protocol.POP), replace(first, opcode=protocol.DROP)):
        assert driver.tick(replace(other, hash=part_hash(0, SLOTS))) == outcome
    assert bytes(driver.ask(protocol.GET, b"sk").payload) == b"1"


@pytest.mark.parametrize("excess", [0, 1])
def test_a_key_over_its_limit_is_refused_and_nothing_is_stored(excess: int) -> None:
    driver = Driver().registered()
    key = b"s" * (protocol.KEY_BYTES_MAX + excess)
    expected = protocol.MALFORMED if excess else protocol.OK
    assert driver.ask(protocol.PUT, key, b"v").status == expected
    assert driver.ask(protocol.PUT_MANY, value=encode(Update([key], [b"v"]))).status == expected
    assert decode(int, driver.ask(protocol.LENGTH).payload) == 1 - excess


def test_a_deleted_dict_stays_deleted() -> None:
    driver = Driver().registered()
    driver.ask(protocol.PUT, b"sk", b"v")
    driver.ask(protocol.DROP)
    driver = driver.reopened()
    assert driver.ask(protocol.REGISTER, value=registration(DICT)).status == protocol.DICT_NOT_FOUND
    assert driver.ask(protocol.GET, b"sk").status == protocol.DICT_NOT_FOUND
    while driver.worker.sweep(NOW):
        pass
    assert not [row for row, _value in driver.store.scan(b"E") if row.startswith(b"E")]


def test_the_first_key_object_stays_when_a_value_is_replaced() -> None:
    driver = Driver().registered()
    driver.ask(protocol.PUT, b"i\x01", protocol.join_key_object(b"True", b"v"), protocol.KEY_OBJECT)
    driver.ask(protocol.PUT, b"i\x01", b"w")
    page = decode(Page, driver.ask(protocol.PAGE, value=encode(PageRequest(b"", 9)), flags=protocol.WITH_VALUES).payload)
    assert page.entries == [(b"i\x01", b"True", b"w")]


@pytest.mark.parametrize("excess", [0, 1])
def test_a_value_that_should_be_a_blob_is_refused(excess: int) -> None:
    driver = Driver().registered()
    reply = driver.ask(protocol.PUT, b"sk", bytes(BLOB_BYTES_MIN + excess))
    assert reply.status == (protocol.TOO_LARGE if excess else protocol.OK)
    assert decode(int, driver.ask(protocol.LENGTH).payload) == 1 - excess


@pytest.mark.parametrize("opcode", [protocol.GET_MANY, protocol.PAGE, protocol.POP_MANY])
def test_an_answer_of_many_ends_with_the_value_that_crosses_its_bound(opcode: int) -> None:
    driver = Driver().registered()
    names = [b"s%d" % number for number in range(9)]
    for name in names:
        driver.ask(protocol.PUT, name, bytes(BLOB_BYTES_MIN))
    value = encode(PageRequest(b"", 9)) if opcode == protocol.PAGE else encode(names)
    payload = driver.ask(opcode, value=value, flags=protocol.WITH_VALUES).payload
    assert PAGE_BYTES_MAX < len(payload) <= PAGE_BYTES_MAX + 2 * BLOB_BYTES_MIN


WRITTEN = {
    protocol.PUT: (b"sk", b"v"),
    protocol.POP: (b"sk", b""),
    protocol.POP_ANY: (b"", b""),
    protocol.CLEAR: (b"", b""),
    protocol.SET_DEFAULT: (b"sk", b"v"),
}


def restored(driver: Driver) -> Driver:
    """The same store without what was remembered, as from a backup."""
    for row, _value in list(driver.store.scan(b"")):
        if row[:1] in (b"S", b"O"):
            driver.store.write({row: None}, True)
    again = driver.reopened()
    again.worker._transaction.sessions.begin_history(int(again.worker._transaction.elapsed))
    return again


@pytest.mark.parametrize("opcode", WRITTEN)
def test_a_write_that_is_sent_again_after_a_restore_is_refused_and_a_new_one_is_not(opcode: int) -> None:
    driver = Driver().registered()
    driver.tick(driver.request(protocol.PUT, b"sk", b"v"), driver.request(protocol.PUT, b"sa", b"v"))
    asked = driver.request(opcode, *WRITTEN[opcode])
    assert driver.tick(asked)[0].status == protocol.OK if opcode != protocol.SET_DEFAULT else protocol.EXISTS
    again = restored(driver)
    before = again.ask(protocol.LENGTH).payload
    for _ in range(2):  # other writes of the session between, which are new
        retried = replace(asked, flags=protocol.RETRY)
        assert again.tick(retried)[0].status == protocol.FORGOTTEN
        assert again.ask(protocol.LENGTH).payload == before
        new = again.request(protocol.PUT, b"sn", b"v", lowest=asked.sequence)
        assert again.tick(new)[0].status == protocol.OK
        assert again.tick(replace(new, flags=protocol.RETRY))[0].status == protocol.OK
        before = again.ask(protocol.LENGTH).payload


def test_an_hour_after_a_restore_a_retry_is_run_as_ever() -> None:
    driver = restored(Driver().registered())
    retried = driver.request(protocol.PUT, b"sk", b"v", protocol.RETRY)
    assert driver.tick(retried)[0].status == protocol.FORGOTTEN
    for second in range(0, SESSION_SECONDS + 10, 2):
        driver.worker.sweep(NOW + second)
    assert driver.tick(retried, now=NOW + SESSION_SECONDS + 10)[0].status == protocol.OK


@pytest.mark.parametrize("opcode", WRITTEN)
def test_a_write_of_no_session_is_malformed(opcode: int) -> None:
    driver = Driver().registered()
    asked = driver.request(opcode, *WRITTEN[opcode], session=protocol.NO_SESSION)
    assert driver.tick(asked)[0].status == protocol.MALFORMED
