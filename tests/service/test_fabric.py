"""ZeroMQ is the fabric: client DEALER, front ROUTER, back ROUTER, worker DEALER, in a default run and without lanes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from holdall import Client, Dict
from holdall.client.connection.dealer import Dealer
from holdall.process.config import ServiceSettings
from holdall.settings import service_url
from tests.processes import children, service_process
from tests.slow import slow_but

_PROGRAM = """
import os, sys
import zmq
from holdall import sockets

role = next((each.removeprefix("holdall.") for each in sys.orig_argv if each.startswith("holdall.")), "")
names = {{(zmq.ROUTER, "service"): "front", (zmq.ROUTER, "workers"): "back", (zmq.DEALER, "workers"): "worker"}}

def note(socket, direction, frames):
    name = socket.getsockopt(zmq.LAST_ENDPOINT).decode().rpartition("/")[2].partition(".")[0]
    leg = names[socket.type, name]
    address = frames[{{"front": 0, "back": 1, "worker": 0}}[leg]]
    if address:  # or else broker and worker only look for each other
        with open({notes!r}, "a") as file:
            file.write(f"{{leg}} {{direction}}\\n")

def noted(function, direction):
    def call(socket, frames):
        note(socket, direction, frames)
        return function(socket, frames)
    return call

receive = sockets.receive

def noted_receive(socket, small):
    frames = receive(socket, small)
    note(socket, "receives", frames)
    return frames

if role in ("broker", "worker"):
    sockets.send, sockets.send_tracked = noted(sockets.send, "sends"), noted(sockets.send_tracked, "sends")
    sockets.receive = noted_receive
"""
LEGS = ("front receives", "back sends", "worker receives", "worker sends", "back receives", "front sends")


class Legs:
    """What has passed each leg since the last look: messages that each socket received and sent."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self.of_client: Counter[str] = Counter()

    def passed(self) -> dict[str, int]:
        noted = Counter(self._notes.read_text().splitlines()) + self.of_client
        self._notes.write_text("")
        self.of_client.clear()
        return {leg: noted[leg] for leg in ("client sends", *LEGS, "client receives")}


@pytest.fixture
def legs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Legs]:
    """A service, and its messages counted, and those of this process."""
    notes, folder = tmp_path / "notes", tmp_path / "counting"
    notes.touch()
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_PROGRAM.format(notes=str(notes)))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    counted = Legs(notes)
    send, receive = Dealer.send, Dealer.receive

    def noted_send(dealer: Dealer, message: list[Any]) -> bool:
        is_sent = send(dealer, message)
        counted.of_client["client sends"] += is_sent  # without a connection it is not
        return is_sent

    def noted_receive(dealer: Dealer, *, wait: bool) -> Any:
        received = receive(dealer, wait=wait)
        counted.of_client["client receives"] += len(received)
        return received

    monkeypatch.setattr(Dealer, "send", noted_send)
    monkeypatch.setattr(Dealer, "receive", noted_receive)
    with service_process(ServiceSettings(str(tmp_path / "data"), sync="off")):
        yield counted


@pytest.mark.parametrize("value", [b"small", bytes(100_000)], ids=["one frame", "two frames"])
def test_a_relayed_call_is_one_message_on_each_leg(legs: Legs, tmp_path: Path, value: bytes) -> None:
    with Client(service_url(tmp_path / "data"), lanes=False) as client:
        d = Dict[str, bytes].from_name("kv", create_if_missing=True, client=client)
        for key in map(str, range(20)):  # both workers know the Dict
            d[key] = value
        legs.passed()
        assert d["7"] == value
        assert set(legs.passed().values()) == {1}
        d["7"] = value
        assert set(legs.passed().values()) == {1}


def test_what_is_gathered_for_a_worker_is_one_message_on_each_leg(legs: Legs, tmp_path: Path) -> None:
    async def calls() -> None:
        async with Client(service_url(tmp_path / "data"), lanes=False) as client:
            d = Dict[int, int].from_name("kv", create_if_missing=True, client=client)
            await asyncio.gather(*(d.put.aio(number, number) for number in range(20)))
            legs.passed()
            assert await asyncio.gather(*(d.get.aio(number) for number in range(20))) == list(range(20))

    asyncio.run(calls())
    assert set(legs.passed().values()) == {2}  # there are two workers


def test_a_first_call_goes_by_zeromq_in_a_default_run(legs: Legs, tmp_path: Path) -> None:
    with Client(service_url(tmp_path / "data")) as client:
        d = Dict[str, int].from_name("kv", create_if_missing=True, client=client)
        d["a"] = 1
        passed = legs.passed()
        assert d["a"] == 1
    assert passed["client sends"] == passed["front receives"] == passed["front sends"] == passed["client receives"]
    relayed = {passed[leg] for leg in ("back sends", "worker receives", "worker sends", "back receives")}
    assert relayed == {passed["front receives"] - 1}  # the broker answers for the roster itself
    assert passed["back sends"] >= 1


def test_all_processes_that_speak_have_libzmq_loaded(tmp_path: Path) -> None:
    with (
        service_process(ServiceSettings(str(tmp_path / "data"), sync="off")) as service,
        Client(service_url(tmp_path / "data")) as client,
    ):
        Dict[str, int].from_name("kv", create_if_missing=True, client=client)["a"] = 1
        processes = children(service)
        assert {"broker", "worker 0", "worker 1"} <= processes.keys()
        for pid in ("self", *processes.values()):
            assert "libzmq" in Path(f"/proc/{pid}/maps").read_text()


def calls_of(random: Random) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """A thousand mixed calls: their names, and arguments."""
    for _ in range(1000):
        key = random.choice(("a", 1, 2.5, ("t", 0), None, b"k", "z" * 2000))
        value = random.choice((None, 7, "v", b"x" * 70_000, b"y" * 300_000, [1, {"n": 2}]))
        yield random.choice(
            (
                ("get", (key,)),
                ("get", (key, "default")),
                ("put", (key, value)),
                ("setdefault", (key, value)),
                ("pop", (key, "nothing")),
                ("contains", (key,)),
                ("len", ()),
                ("update", ({key: value, "more": 1},)),
                ("get_many", ([key, "a", "more"],)),
                ("pop_many", ([key, "more"],)),
            )
        )


def blocking(d: Dict[Any, Any]) -> list[Any]:
    return [getattr(d, name)(*arguments) for name, arguments in calls_of(Random(22))]


def awaited(d: Dict[Any, Any]) -> list[Any]:
    async def calls() -> list[Any]:
        return [await getattr(d, name).aio(*arguments) for name, arguments in calls_of(Random(22))]

    return asyncio.run(calls())


@pytest.mark.slow
@pytest.mark.parametrize("colour", slow_but([blocking], [blocking, awaited]))
def test_a_thousand_mixed_calls_give_the_same_without_lanes(colour: Callable[[Dict[Any, Any]], list[Any]], name: str) -> None:
    results: list[tuple[list[Any], dict[Any, Any]]] = []
    for lanes in (True, False):
        with Client(lanes=lanes) as client:
            d = Dict[Any, Any].from_name(name, create_if_missing=True, client=client)
            d.clear()
            results.append((colour(d), dict(d.items())))
    assert results[0] == results[1]
    assert len(results[0][0]) == 1000
