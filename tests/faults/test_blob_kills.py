"""Workers killed at every step of a blob's life: the value is there, whole and once, and no file is left over."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Dict
from holdall.blob import CHUNK_BYTES
from holdall.client.operations.large import FILE_STEP_BYTES, WINDOW_CHUNKS
from tests.processes import children, restarting_at_once, service_pid, until, wait_for_lanes
from tests.slow import slow_but

STEPS = 3
SIZES = {True: STEPS * FILE_STEP_BYTES, False: STEPS * WINDOW_CHUNKS * CHUNK_BYTES}
"""In files that their client writes and reads, and in chunks."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def service(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[holdall.LocalService]:
    """In the weakest mode: what is lost here when a process is killed would be lost in any."""
    with restarting_at_once(tmp_path_factory.mktemp("path")), holdall.LocalService(data, workers=1, sync="off") as running:
        yield running


@pytest.fixture
def kill(service: holdall.LocalService, data: Path) -> Callable[[], None]:
    parent = service_pid(data)

    def kill() -> None:
        victim = children(parent)["worker 0"]
        os.kill(victim, signal.SIGKILL)
        until(lambda: children(parent).get("worker 0", victim) != victim)

    return kill


@pytest.fixture(params=[True, False], ids=["in files", "in chunks"])
def by_file(d: Dict[Any, Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(d.connected(), "passes_files", request.param)
    if request.param:
        wait_for_lanes(d)
    return bool(request.param)


@pytest.fixture
def value(by_file: bool) -> bytes:
    return os.urandom(SIZES[by_file])


def at(step: int, do: Callable[[], None]) -> Callable[[int, int], None]:
    """A progress that does this once, when the transfer has come so far."""
    steps = iter(range(100))
    return lambda _done, _total: do() if next(steps) == step else None


def files(data: Path) -> list[Path]:
    return [*data.glob("worker-0/blobs/[0-9a-f]*")]


@pytest.mark.parametrize("step", slow_but([0, STEPS], range(STEPS + 1)))
def test_a_put_outlives_a_kill_at_any_step(
    d: Dict[Any, Any], value: bytes, kill: Callable[[], None], data: Path, step: int
) -> None:
    d["key"] = 1
    d.put("key", value, progress=at(step, kill))
    assert d["key"] == value
    kill()
    assert d["key"] == value
    until(lambda: len(files(data)) == 1)
    assert d.pop("key") == value
    until(lambda: not files(data))


@pytest.mark.parametrize("step", slow_but([1], range(STEPS)))
def test_a_get_outlives_a_kill_at_any_step(d: Dict[Any, Any], value: bytes, kill: Callable[[], None], step: int) -> None:
    d["key"] = value
    assert d.get("key", progress=at(step, kill)) == value
    d.clear()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["replaced", "deleted"])
def test_a_value_that_goes_while_it_is_read_is_read_on_or_anew_although_the_worker_is_killed(
    d: Dict[Any, Any], value: bytes, by_file: bool, kill: Callable[[], None], data: Path, end: str
) -> None:
    d["key"] = value

    def change() -> None:
        if end == "replaced":
            d["key"] = value[::-1]
        else:
            del d["key"]
        kill()

    anew = value[::-1] if end == "replaced" else None
    assert d.get("key", progress=at(1, change)) in ([value] if by_file else [value, anew])
    assert d.get("key") == anew
    d.clear()
    until(lambda: not files(data))


def test_a_popped_value_is_read_although_the_worker_is_killed(
    d: Dict[Any, Any], value: bytes, kill: Callable[[], None], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    d["key"] = value
    from holdall.client.operations import large

    download = large.download

    def killing(place: Any, reference: Any, progress: Any) -> Any:
        kill()
        return download(place, reference, progress or at(1, kill))

    monkeypatch.setattr(large, "download", killing)
    assert d.pop("key") == value
    assert "key" not in d
    until(lambda: not files(data))
