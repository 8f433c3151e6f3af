"""What a loop waits for: how it spins before it sleeps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from holdall import processors, spin
from holdall.process.admission import Admission
from holdall.process.poller import SystemPoller


class Told(NamedTuple):
    """A poller, what it watches, and a pipe that leads there."""

    poller: SystemPoller
    source: object
    reading: int
    writing: int


@pytest.fixture
def spins(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows whenever a loop gives way before it looks again."""
    given: list[None] = []
    give_way = os.sched_yield

    def counted() -> None:
        given.append(None)
        give_way()

    monkeypatch.setattr(processors, "can_give_way", lambda: True)
    monkeypatch.setattr(spin, "LOOP_SPIN_SECONDS", 0.02)
    monkeypatch.setattr(os, "sched_yield", counted)
    return given


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    child: Any = SimpleNamespace(watched=[])
    poller = SystemPoller(child, Admission(f"ipc://{tmp_path}/socket"))
    reading, writing = os.pipe()
    source = object()
    poller.add(reading, source)
    yield Told(poller, source, reading, writing)
    poller.remove(reading)
    os.close(reading)
    os.close(writing)


def wait(poller: SystemPoller, seconds: float) -> list[Any]:
    now = time.monotonic()
    return poller.wait(now, now + seconds)


def test_a_loop_that_was_asked_just_now_spins_before_it_sleeps(spins: list[None], told: Told) -> None:
    poller, source, reading, writing = told
    os.write(writing, b"1")
    assert wait(poller, 1.0) == [source]
    assert not spins
    assert wait(poller, 1.0) == [source]  # it was not read
    os.read(reading, 1)
    assert wait(poller, 0.05) == []
    assert spins


def test_a_loop_that_has_waited_for_long_sleeps_at_once(spins: list[None], told: Told) -> None:
    poller, source, reading, writing = told
    assert wait(poller, 0.05) == []
    assert wait(poller, 0.05) == []
    assert not spins
    os.write(writing, b"1")
    assert wait(poller, 1.0) == [source]
    os.read(reading, 1)
    assert wait(poller, 0.05) == []
    assert spins
    before = len(spins)
    assert wait(poller, 0.05) == []
    assert len(spins) == before
