"""A worker as a process: the loop of holdall.worker.loop on the virtual network.

One turn is a generator that yields between any two of its steps; there the process may be killed or stopped, and it goes on
after as many seconds as were yielded. The machine it runs on has the disk, and starts another process after one has died: never
before, because of the lock on the disk.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator
from math import inf
from typing import TYPE_CHECKING

from holdall import protocol
from holdall.bodies import Hello, RosterWorker, encode
from holdall.protocol import Request
from holdall.worker import sessions
from holdall.worker.loop import FLUSH_SECONDS, HELLO_SECONDS
from holdall.worker.message import Answer, Message
from holdall.worker.store import Store
from holdall.worker.transaction import CommitFailed
from tests.simulation.broker_process import with_memoryview
from tests.simulation.disk import Killed
from tests.simulation.network import Frames, Listener, Socket, Unreachable

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

EPOCH = 1_700_000_000.0
"""The wall clock at the beginning, seconds since 1970."""
WAKE_SECONDS = 0.002
"""How long a worker takes at most to notice a message: others gather meanwhile."""
WRITE_SECONDS = 0.02
"""How long it takes at most until others are looked at again, while a batch is being written."""
MESSAGES_PER_TURN = 500
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
        self._simulation = simulation
        self._machine = machine
        self._alive = False
        self._stopped = False
        self._inbox: deque[Message] = deque()
        self._turn: Iterator[float] | None = None
        self._wake_at = inf
        self._hello_due = self._flush_due = 0.0
        self._sweeping = True

    def start(self) -> None:
        """Open the store, connect, begin."""
        simulation, machine = self._simulation, self._machine
        self._alive = True
        self._instance = simulation.random.randbytes(16)
        self._open()
        self.socket = Socket(simulation.network, machine.name, simulation.broker.back, self._receive)
        machine.lanes.open(self._receive_by_lane)
        simulation.history.note(self._machine.name, "is started")
        self._sleep(0)

    def die(self) -> None:
        """Be gone."""
        self._alive = False
        self._turn = None
        self.socket.close()
        self._machine.lanes.close()

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        if self._alive and not self._stopped:
            self._simulation.history.note(self._machine.name, f"is stopped, for {seconds:.2f} s")
            self._stopped = True
            self._simulation.clock.call_in(seconds, self._continue)

    @property
    def runs(self) -> bool:
        """Whether it is neither dead nor stopped."""
        return self._alive and not self._stopped

    def _continue(self) -> None:
        if self._alive:
            self._simulation.history.note(self._machine.name, "goes on")
            self._stopped = False
            self._go_on()

    def _receive(self, frames: Frames) -> None:
        if frames[0]:  # or else the broker only looks whether this worker is connected
            self._take(self.socket, frames)

    def _receive_by_lane(self, frames: Frames) -> None:
        self._take(self._machine.lanes, frames)

    def _take(self, origin: Socket | Listener, frames: Frames) -> None:
        if 2 <= len(frames) <= 3:
            self._inbox.append(Message(origin, *with_memoryview(frames, 2)))
            self._sleep(self._simulation.random.random() * WAKE_SECONDS)

    def _sleep(self, seconds: float) -> None:
        """Wait for the next turn; of several wake-ups the first one counts."""
        wake_at = self._simulation.clock.now + seconds
        if self._turn is None and wake_at < self._wake_at:
            self._wake_at = wake_at
            self._simulation.clock.call_at(wake_at, self._wake, wake_at)

    def _wake(self, wake_at: float) -> None:
        if wake_at == self._wake_at:
            self._wake_at = inf
            if self.runs:
                self._go_on()

    def _go_on(self) -> None:
        """Carry on with this turn, or a new one, unless something happens between two of its steps."""
        machine, faults = self._machine, self._simulation.faults
        turn = self._turn = self._turn or self._steps()
        try:
            for seconds in turn:
                faults.strike_worker(machine)
                if not self.runs:
                    return
                if seconds:
                    self._simulation.clock.call_in(seconds, self._resume, turn)
                    return
        except Killed:
            faults.kill_worker(machine, " in the middle of a write")
            return
        self._turn = None
        self._wake_at = inf
        if self._inbox or self._sweeping or self._worker.waiting:
            self._sleep(self._simulation.random.random() * WAKE_SECONDS)
        else:
            self._sleep(max(0.0, self._hello_due - self._simulation.clock.now))

    def _resume(self, turn: Iterator[float]) -> None:
        if self.runs and self._turn is turn:
            self._go_on()

    def _steps(self) -> Iterator[float]:
        left = yield from self._read()
        if left:
            yield 0.0
            answers = yield from self._tick(left)
            yield 0.0
            for answer in answers:
                self._send(answer)
                yield 0.0
        for answer in self._worker.told():
            yield 0.0
            self._send(answer)
        self._between_ticks()

    def _read(self) -> Generator[float, None, list[Message]]:
        """Answer those who only read, among some of those who wait. Returns the messages that are left."""
        messages = [self._inbox.popleft() for _ in range(min(len(self._inbox), MESSAGES_PER_TURN))]
        if not messages:
            return []
        yield 0.0
        answers, left = self._worker.read(messages, self._wall_clock())
        for answer in answers:
            yield 0.0
            self._send(answer)
        return left

    def _tick(self, messages: list[Message]) -> Generator[float, None, list[Answer]]:
        try:
            write = self._worker.begin(messages, self._wall_clock())
            if write is not None:
                behind = self._worker.may_read_meanwhile(messages)
                if behind:
                    yield from self._meanwhile()
                write()
                if behind:
                    yield from self._meanwhile()
            answers = self._worker.end()
        except CommitFailed:
            self._recover()
            try:
                answers = self._worker.tick(messages, self._wall_clock())
            except CommitFailed as error:
                self._recover()
                answers = self._worker.refuse(messages, str(error))
        self._check()
        return answers

    def _meanwhile(self) -> Iterator[float]:
        """A batch is being written: those who only read are answered."""
        left: list[Message] = []
        while self._simulation.random.random() < 0.75:
            yield self._simulation.random.random() * WRITE_SECONDS
            self._inbox.extendleft(reversed(left))
            left = yield from self._read()
        self._inbox.extendleft(reversed(left))

    def _recover(self) -> None:
        self._simulation.history.note(self._machine.name, "cannot write, and opens its store again")
        self._worker.close()
        self._open()

    def _between_ticks(self) -> None:
        now = self._simulation.clock.now
        if now >= self._hello_due:
            self._hello_due = now + HELLO_SECONDS
            self._sweeping = True
            self._worker.refuse_values("no room" if self._machine.disk.is_full else "")
            self._send(Answer(self.socket, b"", [self._hello()]))
        try:
            due = self._worker.needs_flush or (self._worker.is_unflushed and self._simulation.scenario.sync != "off")
            if due and now >= self._flush_due:
                self._flush_due = now + FLUSH_SECONDS
                self._worker.flush()
            if self._sweeping:
                self._sweeping = self._worker.sweep(self._wall_clock())
        except CommitFailed:
            self._recover()

    def _send(self, answer: Answer) -> None:
        if self._simulation.faults.pipe_is_full():
            return
        origin: Socket | Listener = answer.origin
        with contextlib.suppress(Unreachable):
            origin.send([answer.route, *answer.frames])

    def _open(self) -> None:
        simulation, machine = self._simulation, self._machine
        always = simulation.scenario.sync == "always"
        machine.store = machine.disk.open_store(mostly_synced=always)
        self._worker = simulation.cores.worker(
            machine.store, machine.index, simulation.scenario.workers, sync=always, layout_id=LAYOUT, files=machine.disk.files
        )
        self._worker.collect_orphans()
        self._worker.refuse_values("no room" if machine.disk.is_full else "")

    def _hello(self) -> bytes:
        worker, index = self._worker, self._machine.index
        entry = RosterWorker(index, worker.first_slot, worker.end_slot, [f"ipc:///worker-{index}"])
        body = Hello(LAYOUT, self._instance, self._simulation.scenario.workers, entry, worker.handled)
        request = Request(protocol.HELLO, 0, 0, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", encode(body))
        return bytes(protocol.pack_request(request)[0])

    def _wall_clock(self) -> float:
        return EPOCH + self._simulation.clock.now + self._machine.disk.clock_offset

    def _check(self) -> None:
        for row in self._worker._transaction.sessions._rows.values():
            if len(row.outcomes) > sessions.OUTCOMES_MAX + 1:  # one more: the lowest that waits is never refused
                self._simulation.fail(f"{len(row.outcomes)} outcomes of one session are kept")
