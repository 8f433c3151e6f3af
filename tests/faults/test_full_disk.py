"""A disk without room: values are refused with a typed error, everything else goes on, and so do values once there is room."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, DeserializationError, Dict, LocalService, StorageError
from tests.processes import process_ids, until
from tests.slow import slow_but
from tests.small_disk import fill, small_disk

DISK_MIB = 320
VALUE = os.urandom(100_000)
WORKERS = 1


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    with contextlib.ExitStack() as mounted:
        try:
            mounted.enter_context(small_disk(tmp_path, DISK_MIB))
        except PermissionError as error:
            pytest.skip(str(error))
        yield tmp_path


@pytest.fixture
def d(disk: Path) -> Iterator[Dict[int, bytes]]:
    with LocalService(directory=disk / "data", workers=WORKERS) as service, Client(service.url) as client:
        yield Dict.from_name("kv", create_if_missing=True, client=client)


def refuses_values(d: Dict[int, bytes]) -> bool:
    try:
        d[-1] = b"?"
    except StorageError:
        return True
    return False


def takes_values(d: Dict[int, bytes]) -> bool:
    return not refuses_values(d)


@pytest.mark.parametrize("left_mib", slow_but([0], [0, 20]))
def test_a_full_disk_refuses_values_and_serves_all_else_until_there_is_room(
    d: Dict[int, bytes], disk: Path, left_mib: int
) -> None:
    before = process_ids(disk / "data")
    d.update(dict.fromkeys(range(100), VALUE))
    ballast = fill(disk, left_mib)
    until(lambda: refuses_values(d))

    with pytest.raises(StorageError, match=r"cannot put 100 in Dict 'kv': .*MiB left, and values are refused; pop, delete"):
        d[100] = VALUE
    with pytest.raises(StorageError, match="values are refused"):
        d.update(dict.fromkeys(range(100, 200), VALUE))
    assert 100 not in d
    assert d.pop(-1, b"?") == b"?"
    assert sorted(d) == list(range(100))
    assert all(d.pop(key) == VALUE for key in range(50))
    assert d.setdefault(60, b"?") == VALUE
    assert len(d) == 50
    assert refuses_values(d)

    ballast.unlink()
    until(lambda: takes_values(d))
    d[100] = VALUE
    assert d[100] == VALUE
    assert process_ids(disk / "data") == before


@pytest.mark.parametrize("pop", [lambda d: d.pop(1_000), lambda d: d.pop_many([1_000, 1]), lambda d: d.popitem()])
def test_what_is_popped_unreadable_while_the_disk_is_full_is_said_to_be_lost(
    d: Dict[int, Any], disk: Path, pop: Callable[[Any], object]
) -> None:
    d[1_000] = Unreadable()
    fill(disk, 30)
    until(lambda: refuses_values(d))
    with pytest.raises(DeserializationError) as raised:
        pop(d)
    assert any("could not be put back" in note for note in raised.value.__notes__)


class Unreadable:
    """Can be pickled, and not read back."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@pytest.mark.slow
def test_what_was_acknowledged_until_the_disk_was_full_is_there_after_a_kill_while_it_is_full(disk: Path) -> None:
    stored: list[int] = []
    with LocalService(directory=disk / "data", workers=WORKERS) as service, Client(service.url) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(disk, 150)
        with contextlib.suppress(StorageError):
            for key in itertools.count():
                d[key] = VALUE
                stored.append(key)
        fill(disk)
        for _ in range(3):
            d.pop(stored.pop())
        for process in process_ids(disk / "data")[1:]:
            os.kill(int(process), signal.SIGKILL)
        assert all(d[key] == VALUE for key in stored)
        fill(disk, 40)  # again: a table that was being written when the worker was killed took room until now
        until(lambda: refuses_values(d))
    (disk / "ballast").unlink()
    with LocalService(directory=disk / "data") as service, Client(service.url) as client:
        d = Dict.from_name("kv", client=client)
        assert all(d[key] == VALUE for key in stored)
        until(lambda: takes_values(d))
