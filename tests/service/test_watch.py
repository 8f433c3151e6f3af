"""What a loop waits for: how it looks before it sleeps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from holdall import processors
from holdall.process import patience
from holdall.process.admission import Door
from holdall.process.poller import Watch


class Told(NamedTuple):
    """A watch, what it watches, and a pipe that leads there."""

    watch: Watch
    source: object
    reading: int
    writing: int


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows whenever a loop gives way before it looks again."""
    given: list[None] = []
    give_way = os.sched_yield

    def counted() -> None:
        given.append(None)
        give_way()

    monkeypatch.setattr(processors, "can_give_way", lambda: True)
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(os, "sched_yield", counted)
    return given


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    child: Any = SimpleNamespace(watched=[])
    watch = Watch(child, Door(f"ipc://{tmp_path}/socket"))
    reading, writing = os.pipe()
    source = object()
    watch.add(reading, source)
    yield Told(watch, source, reading, writing)
    watch.remove(reading)
    os.close(reading)
    os.close(writing)


def wait(watch: Watch, seconds: float) -> list[Any]:
    now = time.monotonic()
    return watch.wait(now, now + seconds)


def test_who_was_asked_just_now_looks_before_it_sleeps(looks: list[None], told: Told) -> None:
    watch, source, reading, writing = told
    os.write(writing, b"1")
    assert wait(watch, 1.0) == [source]
    assert not looks
    assert wait(watch, 1.0) == [source]  # nobody has read it
    os.read(reading, 1)
    assert wait(watch, 0.05) == []
    assert looks


def test_who_has_waited_for_long_sleeps_at_once(looks: list[None], told: Told) -> None:
    watch, source, reading, writing = told
    assert wait(watch, 0.05) == []
    assert wait(watch, 0.05) == []
    assert not looks
    os.write(writing, b"1")
    assert wait(watch, 1.0) == [source]
    os.read(reading, 1)
    assert wait(watch, 0.05) == []
    assert looks
    before = len(looks)
    assert wait(watch, 0.05) == []
    assert len(looks) == before
