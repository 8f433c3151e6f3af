"""A data directory that is removed, moved or replaced while its service runs: nothing is written into what takes its place,
calls end with the reason, and the next call starts a service on what is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from holdall import Client, Dict, StorageError
from tests.faults.fates import FATES, Place, befalls, filled_place, has_ended, removed, swapped
from tests.processes import end_service, service_pid, until
from tests.slow import slow_but

MOMENTS = 4
SECONDS_MAX = 1.5
"""Flushes come each second, the directory is looked at each half second."""


def parts_removed(place: Place) -> None:
    for part in place.data.glob("worker-*"):
        shutil.rmtree(part, ignore_errors=True)


def locks_removed(place: Place) -> None:
    for lock in [place.data / "lock", *place.data.glob("worker-*/lock")]:
        lock.unlink()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    monkeypatch.setenv("HOLDALL_DATA", "")
    with filled_place() as place:
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.__name__)
def test_under_load(place: Place, fate: Callable[[Place], None]) -> None:
    befalls(place, fate)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.__name__)
def test_at_random_moments(place: Place, fate: Callable[[Place], None], moment: int) -> None:
    befalls(place, fate, Random(f"{fate.__name__} {moment}").uniform(0, SECONDS_MAX))


LEFT = [["version"], ["version", "complete", "reserve"], ["lock", "blobs/x"], []]


@pytest.mark.parametrize("left", slow_but(LEFT[:1], LEFT))
def test_what_an_interrupted_removal_has_left_is_no_data(place: Place, left: list[str]) -> None:
    end_service(place.data)
    removed(place)
    for name in left:
        file = place.data / "worker-0" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("30\n")
    with Client() as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d[0] = 1
        assert len(d) == 1


QUICK = [removed, swapped]


@pytest.mark.parametrize("fate", slow_but(QUICK, [*FATES, parts_removed, locks_removed]), ids=lambda fate: fate.__name__)
def test_while_nobody_calls(place: Place, fate: Callable[[Place], None]) -> None:
    pid = service_pid(place.data)
    fate(place)
    until(lambda: has_ended(pid))
    with Client(timeout=20) as client:
        found: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        if fate is parts_removed:
            with pytest.raises(StorageError, match="is missing: restore the data directory"):
                found.len()
        else:
            assert (0 in found) is FATES.get(fate, True)
