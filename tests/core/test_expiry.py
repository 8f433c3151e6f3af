"""Expiry at a worker's core, on clocks that are made up: a used entry stays, an unused one goes, whatever clocks do."""

from __future__ import annotations

import dataclasses
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import protocol
from holdall.bodies import Page, PageEntry, PageRequest, Update, decode, encode
from holdall.protocol import Reply, Request
from holdall.worker.handlers import entries
from holdall.worker.state import sweeper, transaction
from holdall.worker.state.dicts import TOUCHES_PER_TTL
from holdall.worker.state.transaction import DOWNTIME_SECONDS_MAX, STEP_SECONDS_MAX, format_store
from holdall.worker.store.rows import ENTRY_PREFIX
from tests.core.test_tick import DICT, NOW, Driver
from tests.memory_store import MemoryStore
from tests.registration import lifetime, registration

TTL = 100.0
DAY = 86_400.0


class CountingStore(MemoryStore):
    """Counts the lookups, the syncs and what is written; notes what was to be compacted."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups = self.syncs = 0
        self.compacted: list[tuple[bytes, bytes]] = []
        self.written: list[int] = []
        """The bytes of the values in each batch."""
        format_store(self)

    def get(self, row: bytes) -> bytes | None:
        self.lookups += 1
        return super().get(row)

    def write(self, changes: Any, sync: bool) -> None:
        self.syncs += sync
        self.written.append(sum(len(value or b"") for value in changes.values()))
        super().write(changes, sync)

    def compact(self, first: bytes, last: bytes) -> bool:
        self.compacted.append((first, last))
        return True


class Timed(Driver):
    """A worker whose wall clock the test sets. It looks at it every second, as a worker does that has nothing else to do."""

    def __init__(self, store: MemoryStore | None = None, wall: float = NOW) -> None:
        super().__init__(store or CountingStore())
        self.wall = wall

    def tick(self, *requests: Request, now: float | None = None) -> list[Reply]:
        return super().tick(*requests, now=self.wall if now is None else now)

    def made(self, ttl: float | None = TTL) -> Timed:
        assert self.ask(protocol.REGISTER, value=registration(DICT, ttl)).status == protocol.OK
        return self

    def wait(self, seconds: float, *, sweeping: bool = True) -> None:
        end = self.wall + seconds
        while self.wall < end:
            self.wall = min(self.wall + transaction.STEP_SECONDS_MAX / 2, end)
            if sweeping:
                self.sweep()
            else:
                self.tick()

    def sweep(self) -> None:
        while self.worker.sweep(self.wall):
            pass

    def has(self, key: bytes) -> bool:
        return self.ask(protocol.GET, key).status == protocol.OK

    def length(self) -> int:
        return decode(int, self.ask(protocol.LENGTH).payload)

    def set_ttl(self, ttl: float | None, version: int) -> Reply:
        return self.ask(protocol.SET_TTL, value=lifetime(DICT, ttl, version))

    def rows(self, kind: bytes) -> list[bytes]:
        return [row[21:] for row, _data in self.store.scan(kind) if row[:1] == kind]

    def statistics(self) -> dict[str, int]:
        return self.worker.statistics()

    def again(self, seconds_later: float = 0.0) -> Timed:
        """Opened again, so much later on the wall clock."""
        other = Timed(self.store, self.wall + seconds_later)
        other.sequence = self.sequence
        return other


def stored(ttl: float | None = TTL, *keys: bytes) -> Timed:
    driver = Timed().made(ttl)
    for key in keys or (b"sk",):
        driver.ask(protocol.PUT, key, b"v")
    return driver


@pytest.mark.parametrize("use", [protocol.GET, protocol.CONTAINS, protocol.PUT, protocol.SET_DEFAULT])
def test_an_entry_used_within_each_ttl_stays(use: int) -> None:
    driver = stored()
    for _ in range(20):
        driver.wait(TTL - 0.001)
        assert driver.ask(use, b"sk", b"w").status in (protocol.OK, protocol.EXISTS)
        assert driver.length() == 1
    assert driver.has(b"sk")


def test_a_put_that_finds_an_entry_uses_it() -> None:
    driver = stored()
    for _ in range(5):
        driver.wait(TTL - 0.001)
        assert driver.ask(protocol.PUT, b"sk", b"w", protocol.SKIP_IF_EXISTS).status == protocol.EXISTS


def test_many_at_once_use_each() -> None:
    driver = stored(TTL, b"sa", b"sb")
    for _ in range(5):
        driver.wait(TTL - 0.001)
        assert decode(list[Any], driver.ask(protocol.GET_MANY, value=encode([b"sa", b"sb", b"sc"])).payload) == [
            b"v",
            b"v",
            None,
        ]


def page_of(driver: Timed, after: bytes = b"", flags: int = protocol.WITH_VALUES) -> Page:
    return decode(Page, driver.ask(protocol.PAGE, value=encode(PageRequest(after, 9)), flags=flags).payload)


def test_listing_keys_and_counting_use_nothing() -> None:
    driver = stored()
    for _ in range(3):
        driver.wait(TTL / 3, sweeping=False)
        assert (len(page_of(driver, flags=0).entries), driver.length()) == (1, 1)
    driver.wait(TTL / TOUCHES_PER_TTL, sweeping=False)
    assert page_of(driver, flags=0).entries == []
    assert not driver.has(b"sk")


def test_iterating_over_values_uses_each() -> None:
    driver = stored(TTL, b"sa", b"sb")
    for _ in range(5):
        driver.wait(TTL - 0.001)
        assert [entry.key for entry in page_of(driver).entries] == [b"sa", b"sb"]
    driver.wait(TTL * (1 + 1 / TOUCHES_PER_TTL))
    assert page_of(driver).entries == []


def test_an_unused_entry_stays_for_its_ttl_and_goes_within_a_hundredth_more() -> None:
    driver = stored(TTL, b"sa", b"sb")
    driver.wait(TTL)
    assert driver.has(b"sa")
    driver.wait(TTL / TOUCHES_PER_TTL)
    assert (driver.has(b"sa"), driver.has(b"sb")) == (True, False)


def test_the_sweeper_removes_what_has_expired_and_its_touches_within_a_fiftieth() -> None:
    driver = stored(TTL, *(b"s%03d" % number for number in range(500)))
    driver.wait(TTL / 2)
    assert driver.has(b"s007")
    assert driver.rows(b"T") == [b"s007"]
    driver.wait(TTL / 2 + 3 * TTL / TOUCHES_PER_TTL + 2)
    assert (driver.rows(b"E"), driver.length()) == ([b"s007"], 1)
    driver.wait(TTL / 2)
    assert (driver.rows(b"E"), driver.rows(b"T"), driver.length()) == ([], [], 0)
    assert driver.statistics()["expired_entries"] == 500


MISSING: dict[int, tuple[int, Any]] = {
    protocol.GET: (protocol.MISSING, b""),
    protocol.CONTAINS: (protocol.MISSING, b""),
    protocol.POP: (protocol.MISSING, b""),
    protocol.POP_ANY: (protocol.MISSING, b""),
    protocol.GET_MANY: (protocol.OK, encode([None])),
    protocol.POP_MANY: (protocol.OK, encode([None])),
    protocol.PAGE: (protocol.OK, encode(Page([]))),
    protocol.SET_DEFAULT: (protocol.OK, b""),
    protocol.PUT: (protocol.OK, b""),
    protocol.PUT_MANY: (protocol.OK, encode(1)),
}
BODIES = {
    protocol.GET_MANY: encode([b"sk"]),
    protocol.POP_MANY: encode([b"sk"]),
    protocol.PAGE: encode(PageRequest(b"", 9)),
    protocol.PUT_MANY: encode(Update([b"sk"], [b"w"])),
}


@pytest.mark.parametrize("opcode", MISSING)
def test_an_expired_entry_is_missing_to_everybody_before_it_is_swept(opcode: int) -> None:
    driver = stored()
    driver.wait(TTL + 2, sweeping=False)
    assert driver.length() == 1
    flags = protocol.SKIP_IF_EXISTS if opcode in (protocol.PUT, protocol.PUT_MANY) else 0
    reply = driver.ask(opcode, b"sk", BODIES.get(opcode, b"w"), flags)
    assert (reply.status, bytes(reply.payload)) == MISSING[opcode]
    wrote = opcode in (protocol.SET_DEFAULT, protocol.PUT, protocol.PUT_MANY)
    driver.wait(10)
    assert (driver.length(), driver.rows(b"E")) == ((1, [b"sk"]) if wrote else (0, []))


def test_what_is_put_over_an_expired_entry_is_a_new_entry() -> None:
    driver = Timed().made()
    driver.ask(protocol.PUT, b"i\x01", protocol.join_key_object(b"True", b"v"), protocol.KEY_OBJECT)
    driver.wait(TTL / 2)
    driver.has(b"i\x01")
    driver.wait(TTL + 2, sweeping=False)
    driver.ask(protocol.PUT, b"i\x01", b"w")
    assert page_of(driver).entries == [PageEntry(b"i\x01", None, b"w")]
    assert (driver.length(), driver.rows(b"T")) == (1, [])


@pytest.mark.parametrize(
    "end", [protocol.POP, protocol.PUT, protocol.CLEAR, protocol.DROP, protocol.POP_MANY, protocol.POP_ANY]
)
def test_a_touch_goes_with_its_entry(end: int) -> None:
    driver = stored()
    driver.wait(TTL / 2)
    driver.has(b"sk")
    assert driver.rows(b"T") == [b"sk"]
    driver.ask(end, b"sk", BODIES.get(end, b"w"))
    driver.wait(2)
    assert driver.rows(b"T") == []
    assert driver.rows(b"E") == ([b"sk"] if end == protocol.PUT else [])


def test_reads_cause_at_most_one_touch_in_a_hundredth_of_the_ttl_and_no_value_is_written() -> None:
    driver = Timed().made()
    driver.ask(protocol.PUT, b"sk", b"v" * 10_000)
    before = driver.statistics()["touches"]
    store = driver.store
    assert isinstance(store, CountingStore)
    store.written.clear()
    for _ in range(30_000):
        driver.wait(TTL / 10_000, sweeping=False)
        assert driver.has(b"sk")
    touches = driver.statistics()["touches"] - before
    assert 0.9 * 3 * TOUCHES_PER_TTL < touches <= 3 * TOUCHES_PER_TTL
    assert len(store.written) == touches
    assert max(store.written) < 100


@pytest.mark.parametrize(("ttl", "age"), [(None, 100 * DAY), (TTL, TTL / 200)])
def test_a_get_of_a_fresh_entry_or_where_none_expires_is_one_lookup_and_no_write(ttl: float | None, age: float) -> None:
    driver = stored(ttl).again(age)
    driver.tick()
    store = driver.store
    assert isinstance(store, CountingStore)
    before = store.lookups, store.unsynced, store.syncs
    assert driver.has(b"sk")
    assert (store.lookups - before[0], store.unsynced, store.syncs) == (1, *before[1:])


def test_touches_alone_are_not_synced_and_a_flush_keeps_them() -> None:
    driver = stored()
    store = driver.store
    assert isinstance(store, CountingStore)
    driver.wait(TTL / 2)
    before = store.syncs
    assert driver.has(b"sk")
    assert (store.syncs, driver.worker.needs_flush(for_all=True)) == (before, True)
    driver.worker.flush()
    assert (store.syncs, driver.worker.needs_flush(for_all=True)) == (before + 1, False)
    store.crash()
    assert driver.again().rows(b"T") == [b"sk"]


def test_a_touch_that_a_power_cut_loses_takes_the_read_back_and_nothing_else() -> None:
    driver = stored()
    driver.wait(TTL / 2)
    driver.has(b"sk")
    driver.store.crash()
    driver = driver.again()
    driver.wait(TTL / 2 - 1)
    assert driver.has(b"sk")


def test_what_was_missing_once_stays_missing_after_a_power_cut_and_with_a_clock_set_back() -> None:
    driver = stored()
    driver.wait(TTL + 2, sweeping=False)
    assert not driver.has(b"sk")
    driver.store.crash()
    driver = driver.again(-DAY)
    assert not driver.has(b"sk")
    assert driver.ask(protocol.CONTAINS, b"sk").status == protocol.MISSING


def test_an_expired_entry_that_is_asked_for_again_and_again_is_synced_once() -> None:
    driver = stored()
    store = driver.store
    assert isinstance(store, CountingStore)
    driver.wait(TTL + 2, sweeping=False)
    before = store.syncs
    for _ in range(5):
        assert not driver.has(b"sk")
    assert store.syncs == before + 1


@pytest.mark.parametrize("jump", [-DAY, 30 * DAY])
def test_a_clock_that_jumps_expires_nothing(jump: float) -> None:
    driver = stored()
    for _ in range(10):
        driver.wall += jump
        assert driver.has(b"sk")
    driver.wait(TTL - 10 * STEP_SECONDS_MAX)
    assert driver.has(b"sk")


@pytest.mark.parametrize("jump", [-DAY, 30 * DAY])
def test_entries_expire_in_time_after_the_clock_has_jumped(jump: float) -> None:
    driver = stored()
    driver.wall += jump
    driver.wait(TTL + 3)
    assert (driver.rows(b"E"), driver.length()) == ([], 0)


def test_entries_age_while_their_store_is_closed() -> None:
    assert stored().again(TTL - 1).has(b"sk")
    assert not stored().again(TTL + 2).has(b"sk")


@pytest.mark.parametrize("wrong", [30 * DAY, -30 * DAY, 1e12])
def test_a_wrong_clock_at_a_start_ages_entries_by_a_day_at_most(wrong: float) -> None:
    driver = stored(DOWNTIME_SECONDS_MAX + 60)
    again = driver.again(wrong)
    assert again.has(b"sk")
    again.wall = NOW + 10  # it is set right
    assert again.has(b"sk")
    assert again.again(10).has(b"sk")


@pytest.mark.parametrize("later", [0.0, -DAY])
def test_the_stores_own_clock_never_runs_backwards(later: float) -> None:
    driver = stored()
    driver.wait(TTL - 10)
    driver.ask(protocol.PUT, b"sother", b"")
    driver = driver.again(later)
    driver.wait(13)
    assert (driver.has(b"sk"), driver.has(b"sother")) == (False, True)


def test_a_jump_of_the_clock_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    driver = stored()
    driver.wait(10)
    assert caplog.messages == []
    driver.wall += 30 * DAY
    driver.sweep()
    assert caplog.messages == ["the wall clock went on by 2592000 s at once: nothing expires by that"]


def test_seven_days_are_seven_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "STEP_SECONDS_MAX", 600.0)
    driver = stored(protocol.TTL_SECONDS, b"sread", b"swritten", b"sunused")
    for _ in range(5):
        driver.wait(protocol.TTL_SECONDS - 600)
        assert driver.has(b"sread")
        assert driver.ask(protocol.PUT, b"swritten", b"w").status == protocol.OK
    assert (driver.rows(b"E"), driver.length()) == ([b"sread", b"swritten"], 2)
    driver.wait(protocol.TTL_SECONDS * 1.03 + 1200)
    assert (driver.rows(b"E"), driver.rows(b"T"), driver.length()) == ([], [], 0)


def test_what_was_swept_stays_missing_after_a_power_cut_and_with_a_clock_set_back() -> None:
    """Two passes soon after one another: for the second one the clock is not made durable at once."""
    driver = stored()
    driver.wait(0.5)
    driver.ask(protocol.PUT, b"later", b"v")
    driver.wait(TTL * 1.01 - 0.5)
    while driver.rows(ENTRY_PREFIX):
        driver.wait(0.1)
    assert not driver.has(b"later")
    driver.store.crash()
    assert not driver.again(-DAY).has(b"later")


def test_sweeping_waits_for_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "STEP_ROWS", 1)
    driver = stored(TTL, *(b"s%d" % number for number in range(50)))
    driver.wait(TTL)
    store = driver.store
    assert isinstance(store, CountingStore)
    before = store.syncs
    driver.wait(3)
    assert driver.statistics()["expired_entries"] == 50
    assert store.syncs - before <= 4  # of the clock


def test_a_dict_in_which_nothing_can_be_due_is_not_looked_at() -> None:
    driver = stored(TTL, *(b"s%d" % number for number in range(50)))
    driver.wait(TTL)
    assert driver.statistics()["looked_rows"] == 0
    driver.wait(3)
    assert driver.statistics()["looked_rows"] == 50
    driver.wait(10 * TTL)
    assert (driver.statistics()["looked_rows"], driver.statistics()["sweep_steps"]) == (50, -(-50 // sweeper.STEP_ROWS))


def test_a_pass_is_spread_over_a_hundredth_of_the_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "STEP_ROWS", 10)
    driver = stored(10_000.0, *(b"s%04d" % number for number in range(1_000)))
    driver.wait(10_000.0 + 100)
    left: list[int] = []
    for _ in range(10):
        driver.wait(10.1)
        left.append(driver.length())
    assert left == pytest.approx([900 - 100 * number for number in range(10)], abs=20)


def test_space_is_given_back_in_the_range_of_what_was_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "COMPACT_BYTES", 100_000)
    monkeypatch.setattr(sweeper, "STEP_ROWS", 200)
    driver = Timed().made()
    for number in range(300):
        driver.ask(protocol.PUT, b"s%03d" % number, bytes(1_000))
    driver.ask(protocol.CLEAR)
    driver.ask(protocol.PUT, b"sstays", b"v")
    store = driver.store
    assert isinstance(store, CountingStore)
    driver.wait(2)
    assert (driver.rows(b"E"), driver.statistics()["swept_rows"]) == ([b"sstays"], 300)
    assert [(first[21:], last[21:]) for first, last in store.compacted] == [(b"s000", b"s199"), (b"s200", b"s299")]
    assert driver.statistics()["compactions"] == len(store.compacted) == 2


@pytest.mark.parametrize("ttl", [0.0, -1.0, nan, inf, protocol.TTL_SECONDS_MAX * 1.001])
def test_what_is_no_ttl_is_refused(ttl: float) -> None:
    driver = Timed()
    assert driver.ask(protocol.REGISTER, value=registration(DICT, ttl)).status == protocol.INVALID
    driver.made()
    assert driver.set_ttl(ttl, 1).status == protocol.INVALID


def test_a_shorter_ttl_counts_for_what_is_there() -> None:
    driver = stored(None, b"sa", b"sb")
    driver.wait(TTL / 2)
    assert driver.has(b"sa")
    driver.set_ttl(TTL, 1)
    assert driver.has(b"sa")  # only from now on are reads noted
    driver.wait(TTL / 2 + 3)
    assert (driver.has(b"sa"), driver.rows(b"E"), driver.length()) == (True, [b"sa"], 1)


@pytest.mark.parametrize("ttl", [None, 1_000 * TTL])
@pytest.mark.parametrize("reopened", [False, True])
def test_what_has_expired_stays_so_when_the_ttl_is_made_longer(ttl: float | None, reopened: bool) -> None:
    driver = stored()
    driver.wait(TTL + 2, sweeping=False)
    driver.ask(protocol.PUT, b"sother", b"v")
    driver.set_ttl(ttl, 1)
    driver = driver.again() if reopened else driver
    assert (driver.has(b"sk"), driver.has(b"sother")) == (False, True)
    driver.wait(1)
    assert (driver.rows(b"E"), driver.length()) == ([b"sother"], 1)
    driver.wait(2 * TTL)
    assert driver.has(b"sother")


def test_of_two_changes_of_a_ttl_the_later_one_counts_in_whatever_order_they_come() -> None:
    driver = stored(None)
    driver.set_ttl(3 * TTL, 2)
    driver.set_ttl(TTL, 1)
    driver.wait(2 * TTL)
    assert driver.has(b"sk")


def test_a_touch_made_under_a_shorter_ttl_goes_with_its_entry() -> None:
    driver = stored()
    driver.wait(TTL / 2)
    driver.has(b"sk")
    driver.set_ttl(None, 1)
    driver.ask(protocol.POP, b"sk")
    assert driver.rows(b"T") == []


def test_pages_end_early_among_expired_entries_and_go_on_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "EXPIRED_ROWS_MAX", 3)
    driver = stored(TTL, *(b"s%d" % number for number in range(8)))
    driver.wait(TTL + 2, sweeping=False)
    driver.ask(protocol.PUT, b"s9", b"v")
    pages, after = [page_of(driver)], b""
    while pages[-1].more:
        assert pages[-1].more > after
        after = pages[-1].more
        pages.append(page_of(driver, after))
    assert [key for page in pages for key, _object, _value in page.entries] == [b"s9"]
    assert len(pages) == 3


def test_a_pop_of_any_entry_removes_expired_ones_on_its_way_a_bounded_number_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "EXPIRED_ROWS_MAX", 3)
    driver = stored(TTL, *(b"s%d" % number for number in range(5)))
    driver.wait(TTL + 2, sweeping=False)
    driver.ask(protocol.PUT, b"s9", b"v")
    pop = driver.request(protocol.POP_ANY)
    assert driver.tick(pop)[0].status == protocol.UNAVAILABLE
    assert driver.length() == 3
    reply = driver.tick(pop)[0]
    assert (reply.status, decode(PageEntry, reply.payload)) == (protocol.OK, PageEntry(b"s9", None, b"v"))
    assert (driver.length(), driver.rows(b"E")) == (0, [])


def test_while_the_disk_is_full_uses_are_kept_in_memory_and_written_later() -> None:
    driver = stored()
    driver.wait(TTL / 2)
    driver.worker.refuse_values("no room")
    assert driver.has(b"sk")
    assert driver.rows(b"T") == []
    driver.wait(TTL - 1)
    assert driver.has(b"sk")
    driver.worker.refuse_values("")
    driver.wait(1)
    assert driver.rows(b"T") == [b"sk"]


@dataclasses.dataclass
class Kept:
    value: bytes
    used: float


KEYS = st.sampled_from([b"sa", b"sb", b"sc"])
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 40.0, 99.0, 101.5])),
    st.tuples(st.sampled_from([protocol.GET, protocol.CONTAINS, protocol.POP, protocol.PUT, protocol.SET_DEFAULT]), KEYS),
    st.tuples(st.just("add"), KEYS),
    st.tuples(st.sampled_from(["sweep", "cut power", "close", "clear"]), st.just(0.0)),
)


class Model:
    """What a plain dict would hold, and when each entry was last used."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Kept] = {}
        self.age = 0.0
        self.count = 0

    def agrees(self, key: bytes, there: bool) -> None:
        """Somebody was told that this key is there, or not."""
        kept = self.entries.get(key)
        unused = self.age - kept.used if kept is not None else inf
        assert there or unused >= TTL, "it went too early"
        assert not there or unused <= TTL * 1.011, "it stayed too long"
        if not there:
            self.entries.pop(key, None)
        elif kept is not None:
            kept.used = self.age


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_entries_live_for_their_ttl_and_the_length_is_exact(steps: list[tuple[Any, Any]]) -> None:
    driver, model = Timed().made(), Model()
    for step, argument in steps:
        if step == "wait":
            driver.wait(argument, sweeping=False)
            model.age += argument
        elif step == "sweep":
            driver.sweep()
        elif step == "clear":
            driver.ask(protocol.CLEAR)
            model.entries.clear()
        elif step in ("cut power", "close"):
            driver.worker.flush()
            driver.store.crash()
            driver = driver.again(30.0 if step == "close" else 0.0)
            model.age += 30.0 if step == "close" else 0.0
        else:
            carry_out(driver, model, step, argument)
        assert driver.length() == len(driver.rows(b"E")) or driver.rows(b"G")
        assert set(driver.rows(b"T")) <= set(driver.rows(b"E")) or driver.rows(b"G")
    driver.wait(TTL * 1.03 + 3)
    assert (driver.rows(b"E"), driver.rows(b"T"), driver.rows(b"G"), driver.length()) == ([], [], [], 0)


def carry_out(driver: Timed, model: Model, step: Any, key: bytes) -> None:
    model.count += 1
    value = b"%d" % model.count
    flags = protocol.SKIP_IF_EXISTS if step == "add" else 0
    reply = driver.ask(protocol.PUT if step == "add" else step, key, value, flags)
    if step == protocol.PUT:
        model.entries[key] = Kept(value, model.age)
        return
    stores = step in ("add", protocol.SET_DEFAULT)
    there = reply.status == (protocol.EXISTS if stores else protocol.OK)
    before = model.entries.get(key)
    model.agrees(key, there)
    if there and reply.payload:
        assert before is not None
        assert bytes(reply.payload) == before.value
    if step == protocol.POP:
        model.entries.pop(key, None)
    elif stores and not there:
        model.entries[key] = Kept(value, model.age)


def test_a_dicts_ids_do_not_matter_to_its_neighbours() -> None:
    driver = stored(None, b"sk")
    other = b"o" * 16
    driver.tick(driver.request(protocol.REGISTER, value=registration(other, TTL), dict_id=other))
    driver.tick(driver.request(protocol.PUT_MANY, value=encode(Update([b"sk"], [b"v"])), dict_id=other))
    driver.wait(TTL + 4)
    assert driver.rows(b"E") == [b"sk"]
    assert next(driver.store.scan(b"E"))[0][1:17] == DICT
