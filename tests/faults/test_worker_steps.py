"""A worker that dies, or spins, at any step of a write: the client's call happens once and gets the right answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict
from holdall.service.settings import ServiceSettings
from holdall.settings import service_url
from tests.faults.deadly import STEPS, Deadly
from tests.processes import children, service_process

STUCK_SECONDS = 2.5
CALLS: dict[str, tuple[Callable[[Dict[Any, Any]], object], object, dict[str, int]]] = {
    "put": (lambda d: d.put("new", 1), True, {"key": 7, "new": 1}),
    "put if absent": (lambda d: d.put("new", 1, skip_if_exists=True), True, {"key": 7, "new": 1}),
    "pop": (lambda d: d.pop("key"), 7, {}),
    "update": (lambda d: d.update({"new": 1, "key": 8}), None, {"key": 8, "new": 1}),
}
"""A call, its answer, and what there is afterwards."""


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deadly:
    made = Deadly(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(made.path))
    return made


@pytest.fixture
def service(deadly: Deadly, tmp_path: Path) -> Iterator[int]:
    """The process id of a service with one worker."""
    settings = ServiceSettings(str(tmp_path / "data"), workers=1, stuck_seconds=STUCK_SECONDS)
    with service_process(settings) as pid:
        yield pid


@pytest.mark.parametrize("step", STEPS)
def test_a_write_happens_once_though_its_worker_is(service: int, deadly: Deadly, tmp_path: Path, step: str) -> None:
    with Client(service_url(tmp_path / "data")) as client:
        for name, (call, answer, left) in CALLS.items():
            d: Dict[Any, Any] = Dict.from_name(name.replace(" ", "-"), create_if_missing=True, client=client)
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
            if step == "busy":  # to be noticed takes a while, whatever the call
                return
