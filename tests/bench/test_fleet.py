"""Client processes: what they measure, and that one which cannot go on ends the run with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from holdall.bench.client_process import Failed
from holdall.bench.fleet import fleet
from holdall.bench.peers.peer import Client, Instance
from holdall.bench.turn import Length
from holdall.bench.workload import NAMED


@dataclass(frozen=True)
class Fake:
    """A peer in the client's own process, which fails or dies at a call."""

    fails: bool = False
    dies: bool = False

    @contextmanager
    def client(self) -> Iterator[Client]:
        entries: dict[str, Any] = {}

        def get(key: str) -> Any:
            if self.fails:
                raise ValueError("no get today")
            if self.dies:
                os._exit(1)
            return entries[key]

        yield Client(get, entries.__setitem__)


def test_clients_fill_warm_up_and_call_in_every_turn() -> None:
    workload = replace(NAMED["get"], entries=10)
    with fleet(Instance(Fake(), (os.getpid(),)), workload) as clients:
        turns = [clients.turn(Length(0.01)) for _ in range(2)]
    for turn in turns:
        assert turn.operations == turn.histogram.get_total_count() > 0
        assert turn.figures()["server MiB"] > 0
        assert turn.rate > 0


def test_an_open_loop_makes_the_calls_that_are_due() -> None:
    with fleet(Instance(Fake()), replace(NAMED["get"], entries=10)) as clients:
        assert clients.turn(Length(0.05, rate=200.0)).operations == 10


def test_why_a_client_cannot_go_on_is_told() -> None:
    with pytest.raises(Failed, match="no get today"), fleet(Instance(Fake(fails=True)), NAMED["get"]) as clients:
        clients.turn(Length(0.01))


def test_a_client_process_that_dies_is_noticed() -> None:
    with pytest.raises(Failed, match="has died"), fleet(Instance(Fake(dies=True)), NAMED["get"]) as clients:
        clients.turn(Length(0.01))
