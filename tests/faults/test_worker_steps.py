"""A worker that dies, or spins, at any step of a write: the client's call happens once and gets the right answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict
from holdall.process.config import ServiceSettings
from holdall.settings import service_url
from holdall.worker.schedule import DELAYED_BYTES_MAX
from tests.faults.deadly import STEPS, STUCK, Deadly
from tests.processes import children, service_process, until
from tests.slow import slow_but

STUCK_SECONDS = 2.5
CALLS: dict[str, tuple[Callable[[Dict[Any, Any]], object], object, dict[str, int]]] = {
    "put": (lambda d: d.put("new", 1), True, {"key": 7, "new": 1}),
    "put if absent": (lambda d: d.put("new", 1, skip_if_exists=True), True, {"key": 7, "new": 1}),
    "pop": (lambda d: d.pop("key"), 7, {}),
    "update": (lambda d: d.update({"new": 1, "key": 8}), None, {"key": 8, "new": 1}),
}
"""A call, its answer, and what there is afterwards."""


@pytest.fixture(scope="module")
def deadly(tmp_path_factory: pytest.TempPathFactory) -> Deadly:
    return Deadly(tmp_path_factory.mktemp("deadly"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def service(deadly: Deadly, data: Path) -> Iterator[int]:
    """The process id of a service with one worker."""
    settings = ServiceSettings(str(data), workers=1, stuck_seconds=STUCK_SECONDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(deadly.path))
        with service_process(settings) as pid:
            yield pid


@pytest.fixture
def d(service: int, data: Path) -> Iterator[Dict[Any, Any]]:
    """A Dict of this test's own."""
    with Client(service_url(data)) as client, Dict[Any, Any].ephemeral(client=client) as own:
        yield own


@pytest.fixture
def beside_a_reader(request: pytest.FixtureRequest, service: int, data: Path) -> Iterator[None]:
    """Whether another client reads without pause: then a thread of the worker writes its batches."""
    if not request.param:
        yield
        return
    over = threading.Event()

    def read() -> None:
        with Client(service_url(data)) as client:
            d: Dict[Any, Any] = Dict.from_name("read", create_if_missing=True, client=client)
            while not over.is_set():
                assert d.get("nothing") is None

    with ThreadPoolExecutor() as threads:
        reader = threads.submit(read)
        yield
        over.set()
        reader.result()


@pytest.mark.usefixtures("beside_a_reader")
@pytest.mark.parametrize("beside_a_reader", slow_but([False], [False, True]), indirect=True, ids=["alone", "beside a reader"])
@pytest.mark.parametrize("step", slow_but({*STEPS} - {*STUCK}, STEPS))
def test_a_write_happens_once_though_its_worker_is(service: int, deadly: Deadly, d: Dict[Any, Any], step: str) -> None:
    for call, answer, left in CALLS.values():
        d.clear()
        d["key"] = 7
        before = children(service)
        deadly.arm(step)
        assert call(d) == answer
        assert deadly.has_struck
        after = children(service)
        assert after["worker 0"] != before["worker 0"]
        assert after["broker"] == before["broker"]
        assert dict(d) == left
        assert len(d) == len(left)
        if step in STUCK:  # to be noticed takes a while, whatever the call
            return


def test_readers_are_answered_while_a_writer_waits_for_the_disk(d: Dict[Any, Any], deadly: Deadly, data: Path) -> None:
    with Client(service_url(data)) as reading, ThreadPoolExecutor() as threads:
        seen = Dict[Any, Any].from_id(d.object_id, reading)
        d.update(written=1, other=1)
        assert seen["other"] == 1
        deadly.arm("waiting for the disk")
        put = threads.submit(d.put, "written", 2)
        until(lambda: deadly.has_struck)
        assert [seen.get(key) for key in ("other", "nothing")] * 50 == [1, None] * 50
        assert seen.get_many(["other", "nothing"]) == {"other": 1}
        got = threads.submit(seen.get, "written")
        later = threads.submit(d.put, "other", 3)
        assert [seen.get("other") for _ in range(50)] == [1] * 50
        asked = [f"{number:0250}" for number in range(1_000)]
        assert all(seen.get_many(asked) == {} for _ in range(DELAYED_BYTES_MAX // 250_000 + 1))
        assert [each.done() for each in (put, got, later)] == [False, False, False]
        deadly.arm("go on")
        assert (put.result(), got.result(), later.result()) == (True, 2, True)
        assert dict(seen) == {"written": 2, "other": 3}
