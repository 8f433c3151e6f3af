"""A simulated client runs the real drivers: it can be interrupted and killed as a real one, and is silent once it is dead."""

from __future__ import annotations

import gc

import pytest

from tests.simulation.client_process import ClientProcess
from tests.simulation.linearizability import PUT
from tests.simulation.network import Frames, Socket
from tests.simulation.scenario import ClientPlan
from tests.simulation.simulation import Simulation
from tests.simulation.workload import Wish

WISHES = [Wish(PUT, "x", ("a",), (f"0-{number}",)) for number in range(3)]


def plan(tasks: int) -> ClientPlan:
    return ClientPlan(tasks=tasks, timeout=5.0, calls=0, pause_seconds=0.0)


@pytest.mark.parametrize("tasks", [0, 1])
def test_a_client_that_was_killed_sends_nothing_more(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Socket] = []
    send = Socket.send

    def noted(socket: Socket, frames: Frames) -> bool:
        sent.append(socket)
        return send(socket, frames)

    monkeypatch.setattr(Socket, "send", noted)
    simulation = Simulation(0)
    with simulation._surroundings():
        client = ClientProcess(simulation, "client 0", plan(tasks))
        client.make(WISHES)
        simulation.clock.advance(2.0)  # nobody answers: there is no broker
        old = client.life
        sockets = old.sockets
        assert set(sent) == set(sockets)
        client.kill()
        sent.clear()
        simulation.clock.advance(10.0)
        del old
        gc.collect()
        simulation.clock.advance(60.0)
    assert sent
    assert set(sent).isdisjoint(sockets)
    assert [call.why for call in simulation.history.calls] == [
        "died with its client",
        "failed: ConnectionError",
        "failed: ConnectionError",
    ]


@pytest.mark.parametrize("tasks", [0, 1])
def test_a_call_that_is_given_up_is_over_and_the_next_one_begins(tasks: int) -> None:
    simulation = Simulation(0)
    with simulation._surroundings():
        client = ClientProcess(simulation, "client 0", plan(tasks))
        client.make(WISHES)
        simulation.clock.advance(2.0)
        [call] = simulation.history.calls
        client._tasks[0]._give_up(call)
        simulation.clock.advance(2.1)
        [call, following] = simulation.history.calls
        assert (call.why, call.ended) == ("was abandoned", 2.0)
        client._tasks[0]._give_up(call)  # which is over
        simulation.clock.advance(60.0)
        assert following.why == "failed: ConnectionError"
        assert [session.pending for session in client.life.sessions] == [{}]


@pytest.mark.parametrize("tasks", [0, 1])
def test_a_first_call_fails_in_its_time(tasks: int) -> None:
    simulation = Simulation(0)
    with simulation._surroundings():
        client = ClientProcess(simulation, "client 0", plan(tasks))
        client.make(WISHES[:1])
        simulation.clock.advance(60.0)
        [call] = simulation.history.calls
        assert 5.0 <= call.ended <= 5.5
