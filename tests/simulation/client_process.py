"""A client: tasks that make their calls, all through one line; killed and started again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

from holdall.bodies import Roster, RosterWorker
from holdall.client.channel import Channel
from holdall.client.client import Client
from holdall.client.dict import Dict
from holdall.client.near import Near
from holdall.worker.large.files import MemoryFile
from tests.simulation.line import Line
from tests.simulation.network import Socket
from tests.simulation.scenario import ClientPlan
from tests.simulation.task import Task
from tests.simulation.workload import Wish, Workload

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


class ClientProcess:
    """What handles and drivers need of a client, and the program that uses them."""

    def __init__(self, simulation: Simulation, name: str, plan: ClientPlan) -> None:
        self.name = name
        self.address = "tcp://simulated:4255"
        self.timeout = plan.timeout
        self._simulation = simulation
        self._plan = plan
        self._workload = Workload(simulation.random, simulation.scenario, name)
        self.busy_tasks = 0
        self._tasks: list[Task] = []
        self.near = Near(is_possible=plan.near != "no", opened=self._open)
        self._start()

    @property
    def roster(self) -> Roster:
        """The workers; known to every operation, because a task asks for them first."""
        assert self.known_roster is not None
        return self.known_roster

    @property
    def busy(self) -> bool:
        """Whether there are calls left to make."""
        return self.busy_tasks > 0

    @property
    def knows_workers(self) -> bool:
        """Whether there is a roster yet."""
        return self.known_roster is not None

    def lane_address(self, worker: RosterWorker) -> str | None:
        """Where this worker may have a lane for us."""
        return worker.addresses[0] if self._plan.has_lanes else None

    def new_channel(self) -> Channel:
        """A new session."""
        return self._simulation.cores.channel(self._simulation.random.randbytes(16), self._simulation.random)

    def new_broker_socket(self) -> Socket:
        """A socket to the broker."""
        return Socket(self._simulation.network, self.name, self._simulation.broker.front, lambda frames: None, queues=False)

    def new_stream(self, address: str) -> Socket:
        """A stream to the worker of this address."""
        simulation = self._simulation
        lanes = {f"ipc:///{machine.name.replace(' ', '-')}": machine.lanes for machine in simulation.machines}
        return Socket(simulation.network, self.name, lanes[address], lambda frames: None, is_stream=True)

    def work(self) -> None:
        """Make the calls that were planned."""
        tasks = max(1, self._plan.tasks)
        for number in range(tasks):
            wishes = (self._workload.draw() for _ in range((self._plan.calls + number) // tasks))
            self._tasks.append(Task(self._simulation, self, wishes, self._plan.pause_seconds))

    def make(self, wishes: list[Wish]) -> None:
        """Make these calls, one after another."""
        self._tasks.append(Task(self._simulation, self, iter(wishes), 0.0))

    def kill(self) -> None:
        """Die with everything that waits; another process goes on, in a session of its own."""
        self._simulation.history.note(self.name, "is killed, and started again")
        self.line.close()
        self._start()
        for task in self._tasks:
            task.lose("died with its client")

    def _open(self, path: str, writes: bool) -> MemoryFile:
        """A file of a machine, if this client is where it sees any."""
        if self._plan.near == "yes":
            for machine in self._simulation.machines:
                with contextlib.suppress(FileNotFoundError):
                    return machine.disk.files.open(path, writes)
        raise FileNotFoundError(path)

    def _start(self) -> None:
        self.known_roster: Roster | None = None
        self.line = Line(self._simulation, self, awaits=self._plan.tasks > 0)
        client = cast(Client, self)
        ttl = self._simulation.scenario.ttl
        self.handles: dict[str, Dict[Any, Any]] = {
            name: Dict.from_name(name, environment_name="main", create_if_missing=True, client=client, ttl=ttl)
            for name in self._simulation.scenario.dicts
        }
