"""Who may tell a worker of a Dict, and what: nobody gives a Dict a ttl of his own, nor a lease by which it ends."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from holdall import protocol
from holdall.bodies import CatalogEntry, Lifetime, Registration, decode, encode
from holdall.protocol import Reply, is_ephemeral
from holdall.worker.core import Worker
from tests.core.test_tick import DICT, NOW, SESSION, Driver
from tests.memory_files import MemoryFiles
from tests.registration import leased, lifetime, registration

SECRET = b"the layout's secret"
TTL = 60.0
EPHEMERAL = b"\x80" + b"e" * 15
KEY = b"main/kv"
SEALED = decode(Registration, registration(DICT, TTL, secret=SECRET, ttl_version=3))


class Sealing(Driver):
    """A worker of a layout with a secret."""

    def __init__(self, secret: bytes = SECRET) -> None:
        super().__init__()
        self.worker = Worker(self.store, 0, 1, sync=True, files=MemoryFiles(), secret=secret)

    def about(self, dict_id: bytes, opcode: int, value: bytes = b"", key: bytes = b"", flags: int = 0, **more: Any) -> Reply:
        return self.tick(self.request(opcode, key, value, flags, dict_id=dict_id, **more))[0]

    def create(self, **more: Any) -> Reply:
        entry = CatalogEntry(
            **{"environment": "main", "name": "kv", "dict_id": DICT, "created_at": 0.0, "created_by": "me", **more}
        )
        return self.about(bytes(16), protocol.CREATE, encode(entry), f"{entry.environment}/{entry.name}".encode())

    def ttl_of(self, dict_id: bytes) -> float | None:
        opened = self.worker._transaction.dicts.get(dict_id)
        assert opened is not None
        return opened.row.ttl


FORGED = {
    "no seal": replace(SEALED, seal=b""),
    "a seal cut short": replace(SEALED, seal=SEALED.seal[:-1]),
    "another seal": replace(SEALED, seal=bytes(16)),
    "another ttl": replace(SEALED, ttl=0.05),
    "no ttl": replace(SEALED, ttl=None),
    "a lease": replace(SEALED, lease_seconds=0.05),
    "another version": replace(SEALED, ttl_version=4),
    "an environment": replace(SEALED, environment="x"),
    "who made it": replace(SEALED, created_by="x"),
    "the seal of another Dict": decode(Registration, registration(b"o" * 16, TTL, secret=SECRET, ttl_version=3)),
    "the seal of another service": decode(Registration, registration(DICT, TTL, secret=b"another", ttl_version=3)),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_registration_that_is_not_sealed_as_it_is_leaves_nothing(forged: str) -> None:
    driver = Sealing()
    rows = dict(driver.store.scan(b""))
    numbers: dict[str, Any] = {"session": SESSION, "sequence": 1, "lowest": 1}
    assert driver.about(DICT, protocol.REGISTER, encode(FORGED[forged]), **numbers).status == protocol.MALFORMED
    assert driver.about(DICT, protocol.GET, key=b"sk").status == protocol.UNKNOWN_DICT
    assert {row: value for row, value in driver.store.scan(b"") if row != b"C"} == {k: v for k, v in rows.items() if k != b"C"}
    assert driver.about(DICT, protocol.REGISTER, encode(SEALED), **numbers).status == protocol.OK
    assert driver.ttl_of(DICT) == TTL


def test_what_the_catalog_says_of_a_dict_registers_it_at_every_worker() -> None:
    catalog, first = Sealing(), decode(CatalogEntry, Sealing().create(ttl=TTL).payload)
    replies = {"CREATE": catalog.create(ttl=TTL), "LOOKUP": catalog.about(bytes(16), protocol.LOOKUP, key=KEY)}
    replies["FIND"] = catalog.about(first.dict_id, protocol.FIND)
    replies["CREATE again"] = catalog.tick(catalog.request(protocol.CREATE, KEY, encode(first), protocol.SKIP_IF_EXISTS))[0]
    for reply in replies.values():
        entry = decode(CatalogEntry, reply.payload)
        body = encode(Registration(entry.ttl, ttl_version=entry.ttl_version, seal=entry.seal))
        assert Sealing().about(entry.dict_id, protocol.REGISTER, body).status == protocol.OK
        assert Sealing(b"another").about(entry.dict_id, protocol.REGISTER, body).status == protocol.MALFORMED
    assert not any(first.seal in data for row, data in catalog.store.scan(b"") if row.startswith(b"N"))


def test_nobody_has_the_catalog_seal_another_ttl_for_the_dict_of_another_name() -> None:
    driver = Sealing()
    mine = decode(CatalogEntry, driver.create(ttl=TTL).payload)
    for name in ("evil", "kv-", "kv2"):
        evil = decode(CatalogEntry, driver.create(name=name, dict_id=mine.dict_id, ttl=0.05).payload)
        assert evil.dict_id != mine.dict_id
        body = encode(Registration(evil.ttl, ttl_version=evil.ttl_version, seal=evil.seal))
        assert driver.about(mine.dict_id, protocol.REGISTER, body).status == protocol.MALFORMED


def test_a_seal_from_before_a_change_of_the_ttl_does_not_undo_it() -> None:
    driver = Sealing()
    old = decode(CatalogEntry, driver.create(ttl=0.05).payload)
    changed = driver.about(old.dict_id, protocol.CHANGE_TTL, encode(Lifetime(TTL, 0)), KEY)
    entry = decode(CatalogEntry, changed.payload)
    told = encode(Lifetime(TTL, entry.ttl_version, entry.seal))
    body = encode(Registration(old.ttl, ttl_version=old.ttl_version, seal=old.seal))
    assert driver.about(old.dict_id, protocol.REGISTER, body).status == protocol.OK
    assert driver.about(old.dict_id, protocol.SET_TTL, told).status == protocol.OK
    assert driver.about(old.dict_id, protocol.REGISTER, body).status == protocol.OK  # it is known: nothing is set
    assert driver.ttl_of(old.dict_id) == TTL


@pytest.mark.parametrize("sealed", ["nothing", "another ttl", "another version", "another Dict", "another service"])
def test_a_ttl_that_is_not_sealed_as_it_is_is_not_set(sealed: str) -> None:
    driver = Sealing()
    assert driver.about(DICT, protocol.REGISTER, encode(SEALED)).status == protocol.OK
    right = lifetime(DICT, 7.0, 9, secret=SECRET)
    forged = {
        "nothing": encode(Lifetime(7.0, 9)),
        "another ttl": encode(replace(decode(Lifetime, right), ttl=0.001)),
        "another version": encode(replace(decode(Lifetime, right), ttl_version=2**60)),
        "another Dict": lifetime(b"o" * 16, 7.0, 9, secret=SECRET),
        "another service": lifetime(DICT, 7.0, 9, secret=b"another"),
    }
    assert driver.about(DICT, protocol.SET_TTL, forged[sealed]).status == protocol.MALFORMED
    assert driver.ttl_of(DICT) == TTL
    assert driver.about(DICT, protocol.SET_TTL, right).status == protocol.OK
    assert driver.ttl_of(DICT) == 7.0


@pytest.mark.parametrize("opcode", [protocol.REGISTER, protocol.DROP])
def test_a_worker_knows_so_many_dicts_and_no_more(monkeypatch: pytest.MonkeyPatch, opcode: int) -> None:
    monkeypatch.setattr("holdall.worker.state.dicts.DICTS_MAX", 3)
    driver = Sealing()
    ids = [bytes([0x80, number]) * 8 for number in range(5)]
    statuses = [driver.about(each, opcode, leased() if opcode == protocol.REGISTER else b"").status for each in ids]
    assert statuses == [protocol.OK] * 3 + [protocol.NO_ROOM] * 2
    assert driver.about(ids[0], opcode, leased()).status == protocol.OK  # it is known
    assert [driver.about(each, protocol.LENGTH).status for each in ids[3:]] == [protocol.UNKNOWN_DICT] * 2


def test_many_leases_that_end_at_once_end_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.worker.state.dicts.LEFT_MAX", 250)
    driver = Sealing()
    ids = [b"\x80" + number.to_bytes(15, "big") for number in range(1_000)]
    assert {driver.about(each, protocol.REGISTER, leased(seconds=5.0)).status for each in ids} == {protocol.OK}
    for second in range(20):
        driver.worker.sweep(NOW + second)
        dicts = driver.worker._transaction.dicts
        assert len(dicts.left) <= 250
    while driver.worker.sweep(NOW + 20):
        pass
    assert [driver.about(each, protocol.LENGTH).status for each in ids[::100]] == [protocol.DICT_NOT_FOUND] * 10


@pytest.mark.parametrize("seconds", [None, 0.0, -1.0, float("inf"), float("nan"), 3601.0])
def test_a_lease_ends_within_the_hour(seconds: float | None) -> None:
    assert Sealing().about(b"\x80" * 16, protocol.REGISTER, leased(seconds=seconds)).status == protocol.MALFORMED


def test_only_an_ephemeral_dict_has_a_lease_and_needs_no_seal() -> None:
    driver = Sealing()
    assert driver.about(EPHEMERAL, protocol.REGISTER, leased()).status == protocol.OK
    for drawn in (EPHEMERAL, b"\xff" * 16, bytes(16)):
        assert not is_ephemeral(decode(CatalogEntry, Sealing().create(dict_id=drawn).payload).dict_id)
    unleased = leased(seconds=None)
    assert driver.about(b"\xff" * 16, protocol.REGISTER, unleased).status == protocol.MALFORMED
    sealed = registration(b"\xff" * 16, TTL, secret=SECRET)
    assert driver.about(b"\xff" * 16, protocol.REGISTER, sealed).status == protocol.MALFORMED


TEXTS = ["", "a b", "../x", "ä", "\x1b[2J", "n" * 65, "a/b", "a\n", "\u202e"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("what", ["name", "environment"])
def test_the_catalog_takes_names_that_a_client_would_take_and_no_others(what: str, text: str) -> None:
    driver = Sealing()
    assert driver.create(**{what: text}).status in (protocol.INVALID, protocol.MALFORMED)
    assert not any(row.startswith((b"N", b"I")) for row, _data in driver.store.scan(b""))
    assert driver.create(**{what: "a.b-C_9"}).status == protocol.OK


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "u" * 321, "\x00", "\u202e"])
def test_who_made_a_dict_is_printable(text: str) -> None:
    driver = Sealing()
    assert driver.create(created_by=text).status == protocol.INVALID
    body = encode(replace(decode(Registration, leased()), created_by=text))
    assert driver.about(EPHEMERAL, protocol.REGISTER, body).status == protocol.MALFORMED
    body = encode(replace(decode(Registration, leased()), environment=text))
    assert driver.about(EPHEMERAL, protocol.REGISTER, body).status == protocol.MALFORMED
    assert driver.create(created_by="üser name@host.example").status == protocol.OK


def test_the_seal_is_of_the_seconds_as_they_are_stored() -> None:
    """A client in another language may send a whole number of seconds as an integer."""
    seal = decode(Registration, registration(DICT, 60.0, secret=SECRET)).seal
    assert Sealing().about(DICT, protocol.REGISTER, encode([60, None, "", "", 0, seal])).status == protocol.OK
