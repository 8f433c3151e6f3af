"""What is told at once is what would have been decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdall import protocol
from holdall.bodies import Update, encode
from holdall.protocol import Reply, Request
from holdall.worker import fresh
from holdall.worker.fresh import RECORD_BYTES_MAX, RECORDS_MAX, SPAN_MS, FreshRecords
from holdall.worker.message import Message
from holdall.worker.rows import ENTRY_PREFIX, TOUCH_PREFIX
from tests.core.test_expiry import Timed, stored

SPAN = SPAN_MS / 1000
TTL = 100 * SPAN * 3
"""Its entries are fresh for three spans."""


class Nothing(FreshRecords):
    """Has nothing to tell."""

    def keep(self, records: Mapping[bytes, bytes]) -> None:
        pass


names = st.sampled_from([b"sa", b"sb", b"i\x01"])
asked = st.one_of(
    st.tuples(st.just(protocol.PUT), names, st.sampled_from([b"\x80v", b"\x80w", b"\x80" * RECORD_BYTES_MAX]), st.just(0)),
    st.tuples(st.just(protocol.PUT), names, st.just(b"\x03\x00\x00\x00obj\x80v"), st.just(protocol.KEY_OBJECT)),
    st.tuples(st.sampled_from([protocol.GET, protocol.CONTAINS, protocol.POP]), names, st.just(b""), st.just(0)),
    st.tuples(st.just(protocol.GET), names, st.just(b""), st.just(protocol.RETRY)),
    st.tuples(st.just(protocol.GET), names, st.just(b"a"), st.just(0)),
    st.tuples(st.just(protocol.GET_MANY), st.just(b""), st.just(encode([b"sa", b"sb"])), st.just(0)),
    st.tuples(st.just(protocol.PUT_MANY), st.just(b""), st.just(encode(Update([b"sa", b"sb"], [b"\x80x", b""]))), st.just(0)),
    st.tuples(st.just(protocol.CLEAR), st.just(b""), st.just(b""), st.just(0)),
)
steps = st.lists(
    st.one_of(
        st.lists(asked, min_size=1, max_size=4),
        st.sampled_from([0.5, SPAN, 4 * SPAN, TTL]),
        st.sampled_from([TTL, 2.0, None]).map(lambda ttl: ("ttl", ttl)),
    ),
    max_size=8,
)
PUT_LARGE: Any = [(protocol.PUT, b"sa", b"\x80" * RECORD_BYTES_MAX, 0)]
PUT_GET: Any = [[(protocol.PUT, b"sa", b"\x80v", 0)], [(protocol.GET, b"sa", b"", 0)]]


def requests(driver: Timed, step: list[Any]) -> list[Request]:
    return [driver.request(opcode, name, value, flags) for opcode, name, value, flags in step]


def rows(driver: Timed) -> list[tuple[bytes, bytes]]:
    return [(row, data) for row, data in driver.store.scan(b"") if row[:1] in (ENTRY_PREFIX, TOUCH_PREFIX)]


@settings(max_examples=300, deadline=None)
@given(steps)
@example([*PUT_GET, 4 * SPAN, PUT_GET[1], 4 * SPAN, PUT_GET[1]])
@example([*PUT_GET, ("ttl", 2.0), 4.0, PUT_GET[1]])
@example([*PUT_GET, PUT_LARGE, PUT_GET[1]])
@example([*PUT_GET, [*PUT_GET[0], *PUT_GET[1]]])
@example([*PUT_GET, [(protocol.POP, b"sa", b"", 0)], PUT_GET[1]])
@example([[*PUT_GET[0], (protocol.POP, b"sa", b"", 0)], PUT_GET[1]])
@example([PUT_GET[0], [(protocol.PUT, b"sa", b"\x03\x00\x00\x00obj\x80v", protocol.KEY_OBJECT)]])
def test_what_is_told_at_once_is_what_would_be_decided(plan: list[Any]) -> None:
    tells, decides = Timed().made(TTL), Timed().made(TTL)
    decides.worker._transaction.fresh = Nothing()
    for version, step in enumerate(plan, 1):
        answers: list[list[Reply]] = []
        for driver in (tells, decides):
            if isinstance(step, float):
                driver.wait(step, sweeping=False)
            elif isinstance(step, tuple):
                answers.append([driver.set_ttl(step[1], version)])
            else:
                answers.append(driver.tick(*requests(driver, step)))
        assert answers[:1] == answers[1:]
    assert rows(tells) == rows(decides)
    assert tells.length() == decides.length()


def test_what_was_read_or_written_is_told_without_a_look_into_the_store() -> None:
    driver = stored(None, b"sa", b"sb")
    lookups = driver.store.lookups  # type: ignore[attr-defined]
    assert driver.has(b"sa")
    driver.ask(protocol.GET_MANY, value=encode([b"sa", b"sb"]))
    assert driver.store.lookups == lookups  # type: ignore[attr-defined]
    again = driver.again()
    assert again.has(b"sa")
    lookups = driver.store.lookups  # type: ignore[attr-defined]
    assert again.has(b"sa")
    assert driver.store.lookups == lookups  # type: ignore[attr-defined]


def test_a_get_for_another_worker_is_refused_whatever_is_known_here() -> None:
    driver = stored(None, b"sa")
    other = driver.request(protocol.GET, b"sa")
    frames = protocol.pack_fields(protocol.GET, 0, 5, other.session, other.sequence, 0, other.dict_id, b"sa", b"")
    driver.worker._hashes = range(6, driver.worker._hashes.stop)
    (answer,), left = driver.worker.read([Message("socket", b"route", bytes(frames[0]))], driver.wall)
    assert not left
    assert protocol.parse_reply(bytes(answer.frames[0])).status == protocol.WRONG_WORKER


def test_there_is_a_bound_to_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    records = FreshRecords()
    records.keep({b"large": bytes(RECORD_BYTES_MAX + 1), b"small": bytes(RECORD_BYTES_MAX)})
    assert list(records) == [b"small"]
    monkeypatch.setattr(fresh, "RECORDS_MAX", 3)
    assert RECORDS_MAX > 3
    for number in range(10):
        records.keep({b"%d" % number: b"record"})
        assert len(records) <= 3
    assert records[b"9"] == b"record"
