"""What waits at the broker goes again when there is another connection to it, in order."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

from holdall import protocol
from holdall.client.ask import Ask
from holdall.client.channel import Channel
from holdall.client.line import Line
from holdall.framing import Received


class Script:
    """A transport that notes what goes by it; `connections` counts those that nobody was told of."""

    is_broken = False

    def __init__(self) -> None:
        self.sent: list[tuple[int, bool]] = []
        """The sequence numbers of the requests, and whether each said that it is sent again."""
        self.connections = 0

    def send(self, message: list[Any]) -> bool:
        request = protocol.parse_request(message[0])
        self.sent.append((request.sequence, bool(request.flags & protocol.RETRY)))
        return True

    def receive(self, *, wait: bool) -> list[Received]:
        return []

    def has_come_back(self) -> bool:
        come, self.connections = self.connections, 0
        return bool(come)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.is_broken = True


class ScriptedLine(Line):
    """A line whose transport to the broker is a script."""

    def __init__(self) -> None:
        self.script = Script()
        client: Any = SimpleNamespace(new_channel=lambda: Channel(b"s" * 16, Random(1)))
        super().__init__(client)

    def ask(self) -> None:
        route = self._channel.route_of_slot[0]
        self._transmit(route, self._channel.send(Ask(protocol.GET, 0, "get", "Dict", data=b"k"), route, 0.0, 10.0).frames)

    def look(self) -> None:
        self._look_at_broker()

    def _open_broker(self) -> Any:
        return self.script


def test_what_waits_at_the_broker_goes_again_in_order_when_there_is_another_connection() -> None:
    line = ScriptedLine()
    for _ in range(3):
        line.ask()
    line.script.connections = 1
    line.look()
    line.ask()
    assert line.script.sent == [(1, False), (2, False), (3, False), (1, True), (2, True), (3, True), (4, False)]


def test_nothing_goes_again_while_the_connection_is_the_same() -> None:
    line = ScriptedLine()
    line.ask()
    line.look()
    assert line.script.sent == [(1, False)]
