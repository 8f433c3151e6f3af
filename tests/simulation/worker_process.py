"""A worker as a process: the real loop, schedule and core, on the virtual network.

What is not real is what the loop touches: its poller, its sources, its thread, its disk and its clocks. Between any two things
that it does to these the process may be killed or stopped. The machine it runs on has the disk, and starts another process
after one has died: never before, because of the lock on the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from holdall.protocol import Buffer
from holdall.worker.core import Worker
from holdall.worker.loop import Loop
from holdall.worker.message import Answer, Message
from holdall.worker.schedule import Schedule
from holdall.worker.serve import hello
from holdall.worker.state import sessions
from holdall.worker.state.transaction import Commit, CommitFailed
from holdall.worker.store.store import Store
from tests.simulation.broker_process import with_memoryview
from tests.simulation.disk import Killed
from tests.simulation.network import Frames, Listener, Socket, Unreachable
from tests.simulation.thread import Thread

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

EPOCH = 1_700_000_000.0
"""The wall clock at the beginning, seconds since 1970."""
WAKE_SECONDS = 0.002
"""How long a worker takes at most to notice a message: others gather meanwhile."""
WRITE_SECONDS = 0.02
"""How long it takes at most until others are looked at again, while a batch is being written."""
MESSAGES_PER_TURN = 500
LATE_END_SHARE = 0.5
"""Of the batches that a thread has written: how many it tells the loop of only after a while."""
LAYOUT = b"the layout's id."
LOCK_SECONDS = 0.3
"""How long a process that finds the disk locked waits before the next one is started."""


class Machine:
    """Where worker `index` lives: its disk, and the process that has it open."""

    def __init__(self, simulation: Simulation, index: int) -> None:
        self.name = f"worker {index}"
        self.index = index
        self.disk = simulation.cores.disk(simulation.random)
        self.store: Store = self.disk
        """What its process has opened."""
        self.cut_at: float | None = None
        """When a power cut first lost writes that had been answered: only if they were not synced."""
        self.forgets_touches = False
        """Whether it has had an accident that may lose uses of entries."""
        self.set_forward_at: float | None = None
        """When its wall clock was first set forward: entries age by a part of that."""
        self.processes: list[WorkerProcess] = []
        self.lanes = Listener(simulation.network)
        """Where clients have lanes to it."""
        self._simulation = simulation

    @property
    def process(self) -> WorkerProcess | None:
        """The process started last, if one lives."""
        return self.processes[-1] if self.processes else None

    def start(self) -> None:
        """Start a process. It ends at once if the disk is locked; with none left another one is started soon."""
        process = WorkerProcess(self._simulation, self)
        if self.disk.lock(process):
            self.processes.append(process)
            process.start()
        else:
            self._simulation.history.note(self.name, "a second process finds the disk locked")

    def kill(self, seconds: float, where: str = "") -> None:
        """Kill -9; another process is started after so long."""
        for process in self.processes:
            self._simulation.history.note(self.name, f"is killed{where}, for {seconds:.2f} s")
            process.die()
            self.disk.unlock(process)
        if self.processes:
            self.processes.clear()
            self._simulation.clock.call_in(seconds, self._restart)

    def power_cut(self, seconds: float, where: str = "") -> None:
        """The machine is without power for so long: what was not synced may be lost."""
        self.kill(seconds, where)
        self.disk.power_cut()
        self.forgets_touches = True
        self._simulation.history.note(self.name, "has no power")
        if self.cut_at is None and self._simulation.scenario.sync != "always":
            self.cut_at = self._simulation.clock.now

    def _restart(self) -> None:
        if not self.processes:
            self.start()


class WorkerProcess:
    """One life of a worker."""

    def __init__(self, simulation: Simulation, machine: Machine) -> None:
        self.simulation = simulation
        self.machine = machine
        self.threads: list[Thread] = []
        self._stopped = False

    def start(self) -> None:
        """Open the store, connect, begin."""
        simulation, machine = self.simulation, self.machine
        instance = simulation.random.randbytes(16)
        self.poller = Poller(self)
        self.uplink = SimulatedSource(self, lambda frames: self.socket.send(frames), passes_files=False)
        lanes = SimulatedSource(self, machine.lanes.send, passes_files=True)
        self.schedule = Schedule(
            self._opened,
            simulation.scenario.sync,
            lambda worker: Answer(self.uplink, b"", [hello(worker, LAYOUT, instance, f"ipc:///worker-{machine.index}")]),
            lambda: "no room" if machine.disk.is_full else "",
        )
        loop = Loop(
            self.poller, SimulatedCommitThread(self), self.schedule, now=lambda: simulation.clock.now, wall=self._wall_clock
        )
        self.main = self.begin(loop.run)
        self.socket = Socket(simulation.network, machine.name, simulation.broker.back, self.uplink.deliver)
        machine.lanes.open(lanes.deliver)
        simulation.history.note(machine.name, "is started")

    def begin(self, run: Callable[[], None]) -> Thread:
        """Another thread of this process."""
        thread = Thread(self.simulation.clock, lambda: self._run(run))
        self.threads.append(thread)
        return thread

    def die(self) -> None:
        """Be gone."""
        self.socket.close()
        self.machine.lanes.close()
        for thread in self.threads:
            thread.kill()

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        if self.runs:
            self.simulation.history.note(self.machine.name, f"is stopped, for {seconds:.2f} s")
            self._stopped = True
            for thread in self.threads:
                thread.stop()
            self.simulation.clock.call_in(seconds, self._continue)

    @property
    def runs(self) -> bool:
        """Whether it is neither dead nor stopped."""
        return self.main.is_alive and not self._stopped

    def step(self) -> None:
        """The loop is between two of its steps: perhaps something happens there."""
        self.simulation.faults.strike_worker(self.machine)
        self.main.checkpoint()

    def check(self) -> None:
        """Fail if more is remembered than may be."""
        remembered = self.schedule.worker._transaction.sessions
        rows = remembered._rows.values()
        if remembered.weight != sum(outcome.weight for row in rows for outcome in row.outcomes.values()):
            self.simulation.fail("the outcomes of all sessions are weighed wrongly")
        for row in rows:
            if len(row.outcomes) > sessions.OUTCOMES_MAX + 1:  # one more: the lowest that waits is never refused
                self.simulation.fail(f"{len(row.outcomes)} outcomes of one session are kept")

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Killed:
            self.simulation.faults.kill_worker(self.machine, " in the middle of a write")

    def _continue(self) -> None:
        if self.main.is_alive:
            self.simulation.history.note(self.machine.name, "goes on")
            self._stopped = False
            for thread in self.threads:
                thread.resume()

    def _opened(self) -> Worker:
        simulation, machine = self.simulation, self.machine
        always = simulation.scenario.sync == "always"
        machine.store = machine.disk.open_store(mostly_synced=always)
        worker = simulation.cores.worker(
            machine.store, machine.index, simulation.scenario.workers, sync=always, layout_id=LAYOUT, files=machine.disk.files
        )
        worker.collect_orphans()
        return worker

    def _wall_clock(self) -> float:
        return EPOCH + self.simulation.clock.now + self.machine.disk.clock_offset


class Poller:
    """What the loop waits for."""

    is_over = False

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._ready: dict[SimulatedSource, None] = {}

    def tell(self, source: SimulatedSource) -> None:
        """Something has come here."""
        self._ready[source] = None
        self._process.main.wake()

    def wait(self, now: float, until: float, *, spins: bool = True) -> list[Any]:
        process, simulation = self._process, self._process.simulation
        process.check()
        process.step()
        if process.schedule.worker.sealing:  # a thread that works for blobs will call
            until = min(until, simulation.clock.now + simulation.random.random() * WRITE_SECONDS)
        if not self._ready and until > simulation.clock.now:
            process.main.wait(until - simulation.clock.now)
        process.main.wait(simulation.random.random() * WAKE_SECONDS)
        process.step()
        ready, self._ready = self._ready, {}
        return list(ready)

    def look_again(self, source: object) -> None:
        self._ready[cast(SimulatedSource, source)] = None

    def defer(self, sources: list[Any]) -> None:
        self._ready = {**dict.fromkeys(sources), **self._ready}


class SimulatedSource:
    """Where messages come from and answers go: the uplink, or all lanes."""

    def __init__(self, process: WorkerProcess, send: Callable[[Frames], object], *, passes_files: bool) -> None:
        self.passes_files = passes_files
        self._process = process
        self._give = send
        self._messages: deque[Message] = deque()

    def deliver(self, frames: Frames) -> None:
        """A message has arrived; an empty one comes from a broker that looks whether this worker is connected."""
        if frames[0] and 2 <= len(frames) <= 3:
            self._messages.append(Message(self, *with_memoryview(frames, 2)))
            self._process.poller.tell(self)

    def take(self) -> tuple[list[Message], int]:
        taken = [self._messages.popleft() for _ in range(min(len(self._messages), MESSAGES_PER_TURN))]
        if self._messages:
            self._process.poller.tell(self)
        return taken, sum(len(each.head) for each in taken)

    def send(self, address: bytes, frames: list[Buffer], file: Any = None) -> bool:
        self._process.step()
        if self._process.simulation.faults.pipe_is_full():
            return False
        with suppress(Unreachable):
            self._give([address, *frames] if file is None else [address, *frames, b"", file])
        return True


class SimulatedCommitThread:
    """The thread that writes batches."""

    def __init__(self, process: WorkerProcess) -> None:
        self.is_busy = False
        self.has_ended = False
        self._process = process
        self._failed: CommitFailed | None = None

    def begin(self, commit: Commit) -> None:
        self.is_busy, self.has_ended = True, False
        thread = self._process.begin(lambda: self._write(commit, thread))

    def join(self) -> CommitFailed | None:
        while not self.has_ended:
            self._process.main.wait()
        self.is_busy = self.has_ended = False
        failed, self._failed = self._failed, None
        return failed

    def _write(self, commit: Commit, thread: Thread) -> None:
        random = self._process.simulation.random
        thread.wait(random.random() * WRITE_SECONDS)
        try:
            commit()
        except CommitFailed as error:
            self._failed = error
        if random.random() < LATE_END_SHARE:
            thread.wait(random.random() * WRITE_SECONDS)
        self.has_ended = True
        self._process.main.wake()
