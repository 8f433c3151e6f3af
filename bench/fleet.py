"""The client processes of one peer and workload: started once, they stay connected while other peers take their turns."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from holdall.bench import client_process
from holdall.bench.client_process import GO, Failed
from holdall.bench.peers.peer import Instance
from holdall.bench.resources import Use, uses
from holdall.bench.turn import Length, Turn
from holdall.bench.workload import Workload

TURN_SECONDS_MAX = 600.0
"""A peer that hangs ends the run after so long: more than filling takes, and a turn."""


class Fleet:
    """Clients that wait for their turn."""

    def __init__(self, instance: Instance, workload: Workload, pipes: list[Connection[Any, Any]], pids: list[int]) -> None:
        self.pids = pids
        """Of the client processes."""
        self._instance = instance
        self._workload = workload
        self._pipes = pipes
        self._before: list[Use] = []

    def turn(self, length: Length) -> Turn:
        """Warm up, and then all at once call for so long."""
        self.begin(length)
        return self.end()

    def begin(self, length: Length) -> None:
        """Let them warm up, and let them go: when this returns they call."""
        for pipe in self._pipes:
            pipe.send(length)
        for pipe in self._pipes:
            _received(pipe)
        self._before = uses(self._instance.pids)
        for pipe in self._pipes:
            pipe.send(GO)

    def end(self) -> Turn:
        """Wait until they are done."""
        parts = [_received(pipe) for pipe in self._pipes]
        return Turn(parts, self._workload.operations_per_call, self._before, uses(self._instance.pids))


@contextmanager
def fleet(instance: Instance, workload: Workload, *, fill: bool = True) -> Generator[Fleet, None, None]:
    """Start and connect them; `fill`: the first of them puts all entries."""
    context = get_context("spawn")
    pipes: list[Connection[Any, Any]] = []
    processes: list[Any] = []
    try:
        for index in range(workload.processes):
            ours, theirs = context.Pipe()
            arguments = (instance.connector, workload, index, fill and index == 0, theirs)
            process = context.Process(target=client_process.main, args=arguments, daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
            if fill and index == 0:
                _received(ours)
        for pipe in pipes[1 if fill else 0 :]:
            _received(pipe)
        yield Fleet(instance, workload, pipes, [process.pid for process in processes])
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join()


def _received(pipe: Connection[Any, Any]) -> Any:
    """What a client process says. Raises Failed if that is why it cannot go on."""
    if not pipe.poll(TURN_SECONDS_MAX):
        raise Failed(f"a client process says nothing for {TURN_SECONDS_MAX:g} s")
    try:
        said = pipe.recv()
    except EOFError:
        raise Failed("a client process has died") from None
    if isinstance(said, Failed):
        raise said
    return said
