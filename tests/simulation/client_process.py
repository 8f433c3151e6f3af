"""A client: tasks that make their calls, through the real Client and its drivers; killed and started again."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdall.client.client import Client
from holdall.client.connection.session import Session
from holdall.client.dict import Dict
from tests.simulation.connector import SimulatedConnector, Transport
from tests.simulation.loop import Loop
from tests.simulation.network import Socket
from tests.simulation.scenario import ClientPlan
from tests.simulation.task import Task
from tests.simulation.thread import Thread
from tests.simulation.workload import Wish, Workload

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

URL = "ipc:///simulated"


class SimulatedClient(Client):
    """The real one, over the transports of a life."""

    def __init__(self, life: Life) -> None:
        super().__init__(URL, timeout=life.plan.timeout, lanes=False)
        self._connector: Any = SimulatedConnector(life, self.address)
        self._life = life
        self.passes_files = life.plan.passes_files

    def _new_session(self) -> Session:
        session = self._life.simulation.cores.session(self._life.simulation.random.randbytes(16), self._life.simulation.random)
        self._life.sessions.append(session)
        return session


class Life:
    """One life of a client's process: a thread that blocks, or an event loop."""

    def __init__(self, simulation: Simulation, name: str, plan: ClientPlan) -> None:
        self.simulation = simulation
        self.name = name
        self.plan = plan
        self.is_alive = True
        self.sessions: list[Session] = []
        self.loop = Loop(simulation) if plan.tasks else None
        self._thread: Thread | None = None
        self._transports: list[Transport] = []
        self._waits_for: Transport | None = None
        self._is_interrupted = False
        self.client = simulation.cores.client(self)
        ttl = simulation.scenario.ttl
        self.handles: dict[str, Dict[Any, Any]] = {
            each: Dict.from_name(each, environment_name="main", create_if_missing=True, client=self.client, ttl=ttl)
            for each in simulation.scenario.dicts
        }

    @property
    def sockets(self) -> list[Socket]:
        """Those of all transports."""
        return [transport.socket for transport in dict.fromkeys(self._transports) if not transport.is_broken]

    def start(self, task: Task) -> None:
        """Have a task go on here."""
        if self.loop is not None:
            self.loop.start(task.run_awaiting(self))
        else:
            self._thread = Thread(self.simulation.clock, lambda: task.run_blocking(self))

    def end(self) -> None:
        """Kill -9."""
        self.is_alive = False
        for socket in self.sockets:
            socket.close()
        if self.loop is not None:
            self.loop.is_alive = False
        if self._thread is not None:
            self._thread.kill()

    def add(self, transport: Transport) -> int:
        """A transport is opened. Returns a number for it."""
        self._transports.append(transport)
        return len(self._transports)

    def wait(self, seconds: float = inf, transport: Transport | None = None) -> None:
        """Called by the thread: wait, for this transport perhaps. Raises KeyboardInterrupt."""
        assert self._thread is not None
        self._waits_for = transport
        self._thread.wait(seconds)
        self._waits_for = None
        if self._is_interrupted:
            self._is_interrupted = False
            raise KeyboardInterrupt

    def interrupt(self) -> None:
        """Ctrl-C, in a thread that waits."""
        assert self._thread is not None
        self._is_interrupted = True
        self._thread.wake()

    def notify(self, number: int, transport: Transport) -> None:
        """Something may be received here."""
        if self.loop is not None:
            self.loop.notify(number)
        elif self._waits_for is transport and transport.is_readable():
            assert self._thread is not None
            self._thread.wake()


class ClientProcess:
    """One life after the other, and the program that goes on in the next one."""

    def __init__(self, simulation: Simulation, name: str, plan: ClientPlan) -> None:
        self.name = name
        self.busy_tasks = 0
        self._simulation = simulation
        self._plan = plan
        self._workload = Workload(simulation.random, simulation.scenario, name)
        self._tasks: list[Task] = []
        self.life = Life(simulation, name, plan)

    @property
    def busy(self) -> bool:
        """Whether there are calls left to make."""
        return self.busy_tasks > 0

    def work(self) -> None:
        """Make the calls that were planned."""
        tasks = max(1, self._plan.tasks)
        for number in range(tasks):
            wishes = (self._workload.draw() for _ in range((self._plan.calls + number) // tasks))
            self._begin(Task(self._simulation, self, wishes, self._plan.pause_seconds))

    def make(self, wishes: list[Wish]) -> None:
        """Make these calls, one after another."""
        self._begin(Task(self._simulation, self, iter(wishes), 0.0))

    def kill(self) -> None:
        """Die with everything that waits; another process goes on, in sessions of its own."""
        self._simulation.history.note(self.name, "is killed, and started again")
        self.life.end()
        self.life = Life(self._simulation, self.name, self._plan)
        for task in self._tasks:
            if not task.is_done:
                task.lose("died with its client")
                self.life.start(task)

    def _begin(self, task: Task) -> None:
        self._tasks.append(task)
        self.life.start(task)
