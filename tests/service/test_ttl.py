"""Expiry through real processes. What is asserted are values and counters, never how long something took.

HOLDALL_TEST_ENTRIES says how many entries expire at once while others are read; `make soak` takes a million.
"""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict, InvalidError, LocalService, NotFoundError, protocol
from holdall.client.operations import catalog
from tests.processes import until

TTL = 2.0
"""Seconds: long enough that no test here is too slow to use an entry in time."""
ENTRIES = int(os.environ.get("HOLDALL_TEST_ENTRIES", "20000"))


def statistics(client: Client) -> Counter[str]:
    """The counters of all workers together."""
    total: Counter[str] = Counter()
    for each in client.run(catalog.statistics(client)):
        total.update(each)
    return total


def test_an_entry_that_is_read_stays_and_one_that_is_not_goes(name: str) -> None:
    d: Dict[str, int] = Dict.from_name(name, create_if_missing=True, ttl=TTL)
    d.update(read=1, contained=2, unused=3)
    began = time.monotonic()
    until(lambda: (d["read"], "contained" in d) == (1, True) and time.monotonic() > began + 3 * TTL)
    assert d.get("unused") is None
    assert sorted(d) == ["contained", "read"]
    until(lambda: len(d) <= 2)  # where the machine stands still for a while, the others have gone too
    until(lambda: len(d) == 0)
    assert d.put("unused", 4, skip_if_exists=True)


def test_a_ttl_survives_a_restart_and_entries_age_meanwhile(tmp_path: Path) -> None:
    with LocalService(tmp_path / "data", workers=2) as service, Client(service.url) as client:
        d: Dict[str, int] = Dict.from_name("kv", create_if_missing=True, ttl=TTL, client=client)
        d["gone"] = 1
        d.set_ttl(3600)
        d["stays"] = 2
        d.set_ttl(TTL / 2)
        d.set_ttl(3600)
    with LocalService(tmp_path / "data") as service, Client(service.url) as client:
        d = Dict.from_name("kv", client=client)
        assert d.info().ttl == 3600
        assert d.get("stays") == 2


@pytest.mark.slow
def test_an_update_of_a_million_expires_while_another_dict_is_served(tmp_path: Path) -> None:
    with LocalService(tmp_path / "data", workers=2, sync="off") as service, Client(service.url) as client:
        d: Dict[int, str] = Dict.from_name("many", create_if_missing=True, ttl=None, client=client)
        small: Dict[int, int] = Dict.from_name("small", create_if_missing=True, client=client)
        for first in range(0, ENTRIES, 10_000):
            d.update(dict.fromkeys(range(first, min(first + 10000, ENTRIES)), "x" * 100))
        small.update({number: number for number in range(100)})
        assert len(d) == ENTRIES
        d.set_ttl(0.001)
        reads = 0
        began = time.monotonic()
        while len(d):
            assert [small[number] for number in range(100)] == [*range(100)]
            assert d.get(reads % ENTRIES) is None
            reads += 1
            assert time.monotonic() < began + 60 + ENTRIES / 2_000, "the sweeper does not get on"
        assert list(d) == []
        counted = statistics(client)
        assert (counted["expired_entries"], counted["entries"]) == (ENTRIES, 100)


def test_a_dict_keeps_its_entries_for_seven_days_unless_it_is_told_otherwise(name: str) -> None:
    assert Dict.from_name(name, create_if_missing=True).info().ttl == 7 * 24 * 3600
    assert Dict.from_name(name, create_if_missing=True, ttl=5).info().ttl == 7 * 24 * 3600  # it is there
    with Dict.ephemeral() as scratch:
        assert scratch.info().ttl == 7 * 24 * 3600
        scratch.set_ttl(None)
        assert scratch.info().ttl is None
    Dict.objects.create(f"{name}-other", ttl=None)
    try:
        assert Dict.from_name(f"{name}-other").info().ttl is None
    finally:
        Dict.objects.delete(f"{name}-other")


def test_a_ttl_can_be_changed_and_is_told_to_every_worker(d: Dict[Any, Any]) -> None:
    d.update(dict.fromkeys(range(100), "v"))
    d.set_ttl(0.001)
    until(lambda: len(d) == 0)
    asyncio.run(d.set_ttl.aio(None))
    d.update(dict.fromkeys(range(100), "v"))
    assert (d.info().ttl, len(d), len(list(d))) == (None, 100, 100)


def test_a_handle_that_has_not_made_its_dict_yet_takes_its_ttl_along(name: str) -> None:
    travelled: Dict[Any, Any] = pickle.loads(pickle.dumps(Dict.from_name(name, create_if_missing=True, ttl=60)))
    assert travelled.info().ttl == 60


def test_the_ttl_of_a_deleted_dict_cannot_be_changed(name: str, d: Dict[Any, Any]) -> None:
    Dict.objects.delete(name)
    with pytest.raises(NotFoundError, match="set the ttl of"):
        d.set_ttl(60)


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, "60", True, Fraction(1), protocol.TTL_SECONDS_MAX * 2])
def test_what_is_no_ttl_is_an_error_before_anything_is_sent(ttl: Any, name: str, d: Dict[Any, Any]) -> None:
    for call in (Dict.from_name, Dict.objects.create):
        with pytest.raises(InvalidError, match="Invalid ttl"):
            call(name, ttl=ttl)
    with pytest.raises(InvalidError, match="Invalid ttl"):
        d.set_ttl(ttl)
    assert d.info().ttl == protocol.TTL_SECONDS


def test_a_dict_of_which_all_has_expired_is_false_before_it_is_swept(service: LocalService, name: str) -> None:
    d: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True, ttl=0.5)
    assert not d
    d.update({number: number for number in range(2_000)})
    assert d
    until(lambda: not list(d.keys()))
    assert not d
    while d:
        raise AssertionError("there is nothing to do")
    d["new"] = 1
    assert d
    assert list(d) == ["new"]
