"""What waits for the broker goes to the next one, in order and before anything newer."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from holdall import protocol
from holdall.client.ask import Ask
from holdall.client.channel import Channel
from holdall.client.line import BROKER_SECONDS, Line
from holdall.errors import ConnectionError
from holdall.stream import Received


class Script:
    """A way that notes what goes on it, until it is broken."""

    def __init__(self) -> None:
        self.is_broken = False
        self.sequences: list[int] = []

    def put(self, message: list[Any]) -> bool:
        self.sequences.append(protocol.parse_request(message[0]).sequence)
        return True

    def read(self, *, wait: bool) -> list[Received]:
        return []

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.is_broken = True


class ScriptedLine(Line):
    """To brokers that come and go; `relays` are its ways to them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_there = True
        self.tries = 0
        self.relays: list[Script] = []
        client: Any = SimpleNamespace(new_channel=lambda: Channel(b"s" * 16, Random(1)))
        super().__init__(client)

    def ask(self) -> None:
        route = self._channel.route_of_slot[0]
        self._transmit(route, self._channel.send(Ask(protocol.GET, 0, "get", "Dict", data=b"k"), route, 0.0, 10.0).frames)

    def _now(self) -> float:
        return self.now

    def _open_relay(self) -> Script | None:
        self.tries += 1
        if not self.is_there:
            return None
        self.relays.append(Script())
        return self.relays[-1]


def test_what_waits_goes_to_the_next_broker_in_order_and_before_anything_newer() -> None:
    line = ScriptedLine()
    for _ in range(3):
        line.ask()
    line.relays[0].close()
    line.ask()
    assert [relay.sequences for relay in line.relays] == [[1, 2, 3], [1, 2, 3, 4]]


def test_a_broker_that_is_not_there_is_looked_for_now_and_then() -> None:
    line = ScriptedLine()
    line.relays[0].close()
    line.is_there = False
    for _ in range(100):
        line.ask()
    assert line.tries == 2
    line.is_there = True
    line.now = 1.5 * BROKER_SECONDS
    line.ask()
    assert line.relays[1].sequences == list(range(1, 102))


def test_a_way_that_cannot_be_opened_at_the_moment_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    line = ScriptedLine()
    line.relays[0].close()

    def none_is_left() -> Script:
        raise ConnectionError("no descriptor is left")

    with monkeypatch.context() as patch:
        patch.setattr(line, "_open_relay", none_is_left)
        line.ask()
    line.now = 1.5 * BROKER_SECONDS
    line.ask()
    assert line.relays[1].sequences == [1, 2]
