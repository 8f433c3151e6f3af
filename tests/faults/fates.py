"""What may happen to a data directory while its service runs and four clients write, and what has to hold afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdall import Client, Dict, Error, LocalService
from holdall.client.operations.backup import back_up
from holdall.worker.directory.check import check_directory
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.directory.restore import restore
from tests.processes import end_service, service_pid, until

CLIENTS = 4
OLD = 200
VALUE = "x" * 2_000


class Place:
    """A data directory with some entries, its backup, and others' copies."""

    def __init__(self, home: Path) -> None:
        self.home, self.data, self.backup = home, home / "data", home / "backup"

    def restore_to(self, name: str) -> Path:
        restore(self.backup, DataDirectory(self.home / name), lambda done: None)
        return self.home / name


def removed(place: Place) -> None:
    shutil.rmtree(place.data, ignore_errors=True)
    shutil.rmtree(place.data, ignore_errors=True)


def moved(place: Place) -> None:
    place.data.rename(place.home / "moved")


def removed_and_restored(place: Place) -> None:
    removed(place)
    place.restore_to("data")


def moved_and_restored(place: Place) -> None:
    moved(place)
    place.restore_to("data")


def swapped(place: Place) -> None:
    other = place.restore_to("other")
    moved(place)
    other.rename(place.data)


FATES: dict[Callable[[Place], None], bool] = {
    removed: False,
    moved: False,
    removed_and_restored: True,
    moved_and_restored: True,
    swapped: True,
}
"""What happens to it, and whether the old entries are there afterwards."""


@contextmanager
def filled_place() -> Iterator[Place]:
    """A data directory with a service and OLD entries, which is this process's own (HOLDALL_DATA), and its backup."""
    with tempfile.TemporaryDirectory(prefix="holdall-test-", ignore_cleanup_errors=True) as name:
        place = Place(Path(name))
        os.environ["HOLDALL_DATA"] = str(place.data)
        with Client() as client:
            d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
            d.update(dict.fromkeys(range(OLD), VALUE))
            back_up(client, place.backup, lambda made: None)
        yield place
        end_service(place.data)


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def keys_in(data: Path) -> set[Any]:
    with LocalService(data) as service, Client(service.url) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        return set(d)


def writing(place: Place, number: int, stop: Callable[[], bool]) -> tuple[dict[Any, float], list[str]]:
    """Puts until it is told to stop: the keys that were acknowledged, and when, and what was said instead."""
    acknowledged: dict[Any, float] = {}
    said: list[str] = []
    with Client(timeout=20) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        while not stop():
            key = number, len(acknowledged) + len(said)
            began = time.monotonic()
            try:
                d[key] = VALUE
                acknowledged[key] = time.monotonic()
            except Error as error:
                said.append(str(error))
            assert time.monotonic() - began < 22
    return acknowledged, said


def befalls(place: Place, fate: Callable[[Place], None], seconds: float = 0.0) -> None:
    """This happens to the place, so many seconds after the writers have begun."""
    pid = service_pid(place.data)
    ends: list[float] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        calls = [pool.submit(writing, place, each, lambda: bool(ends)) for each in range(CLIENTS)]
        try:
            with Client() as client:
                d: Dict[Any, Any] = Dict.from_name("kv", client=client)
                until(lambda: len(d) > OLD + 20)
            time.sleep(seconds)  # the moment is what is varied
            fate(place)
            until(lambda: has_ended(pid))
            with Client() as client:  # the next call starts a service on what is there
                found: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
                assert (0 in found) is FATES[fate]
                began = time.monotonic()
                if FATES[fate]:  # else it is another Dict, which the writers' handles do not mean
                    until(lambda: len(found) > OLD + 20)
        finally:
            ends.append(time.monotonic())
        results = [call.result() for call in calls]
    end_service(place.data)
    findings = [finding for part in check_directory(DataDirectory(place.data)) for finding in part.findings]
    assert not findings, findings
    there = keys_in(place.data)
    for acknowledged, _said in results:
        assert {key for key, at in acknowledged.items() if at > began} <= there
    old = place.home / "moved"
    if old.exists():
        assert [finding for part in check_directory(DataDirectory(old)) for finding in part.findings] == []
        there |= keys_in(old)
        assert all(acknowledged.keys() <= there for acknowledged, _said in results)
    said = {line for _acknowledged, said in results for line in said}
    assert said or FATES[fate]
    assert all("data directory" in line for line in said), said
