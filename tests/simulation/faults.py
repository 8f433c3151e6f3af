"""What goes wrong in a run, and when: from time to time at any moment, and now and then between two steps of a worker.

Everything is mended within OUTAGE_SECONDS_MAX; after `end` nothing new goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdall import protocol
from holdall.bodies import encode
from holdall.protocol import Request
from tests.simulation.disk import Killed, disk_error
from tests.simulation.network import Socket
from tests.simulation.weather import LATE_SECONDS_MAX

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation
    from tests.simulation.worker_process import Machine

STRIKES = ("disk errors", "power cut", "worker killed", "worker stopped")
"""What can happen to a worker between two of its steps."""
OUTAGE_SECONDS_MAX = 6.0
CLOCK_OFFSET_SECONDS = 100_000.0
"""By how much a wall clock is wrong, at most, in either direction: far more than the horizon of sessions."""
RECOVERY_SECONDS = 5.0
"""How long after the last repair a call may still fail: reconnecting, the broker's limit of silence, asking again."""
PIPE_FULL_RISK = 0.01
LATE_WORK_RISK = 0.3
LATE_WORK_SECONDS_MAX = 0.9
"""Longer than a file is lent in BLOB_LIMITS."""
BROKER_STRIKE_RISK = 0.003
"""How likely a broker that may be killed is killed before a message that it is about to send."""


class Faults:
    """The faults of one run."""

    def __init__(self, simulation: Simulation) -> None:
        self.over = True
        self._simulation = simulation
        self._random = simulation.random
        self._scenario = simulation.scenario
        actions: dict[str, Callable[[], None]] = {
            "broker killed": lambda: simulation.broker.kill(self._outage()),
            "broker stopped": lambda: simulation.broker.stop(self._outage()),
            "worker killed": lambda: self._machine().kill(self._outage()),
            "worker stopped": self._stop_worker,
            "power cut": self._cut_power,
            "link cut": self._cut_link,
            "disk errors": lambda: self._break_disk(self._machine()),
            "clock jumps": self._set_clock,
            "client killed": lambda: self._random.choice(simulation.clients).kill(),
            "strangers": self._write_as_stranger,
        }
        self._actions = [action for fault, action in actions.items() if fault in simulation.scenario.faults]

    def begin(self) -> None:
        """From now on things go wrong."""
        if not self._scenario.faults:
            self._simulation.calm_at = self._simulation.clock.now
            return
        self.over = False
        self._simulation.weather.stormy = True
        self._simulation.clock.call_in(self._scenario.storm_seconds, self.end)
        self._strike_later()

    def end(self) -> None:
        """Nothing new goes wrong from now on."""
        if self.over:
            return
        simulation = self._simulation
        self.over = True
        simulation.weather.stormy = False
        for machine in simulation.machines:
            machine.disk.failure = None
        simulation.calm_at = simulation.clock.now + OUTAGE_SECONDS_MAX + LATE_SECONDS_MAX + RECOVERY_SECONDS
        simulation.history.note("", "nothing new goes wrong from now on")

    def strike_worker(self, machine: Machine) -> None:
        """A worker is between two steps: perhaps something happens to it there, or is going to in its next write."""
        if self.over or self._random.random() >= self._scenario.step_risk:
            return
        possible = [fault for fault in STRIKES if fault in self._scenario.faults]
        fault = self._random.choice(possible or [""])
        if fault == "worker stopped":
            self._stop_worker(machine)
        elif fault == "disk errors":
            self._break_disk(machine)
        elif fault and self._random.random() < 0.5:
            machine.disk.failure = Killed()
        elif fault:
            self.kill_worker(machine, " between two steps")

    def kill_worker(self, machine: Machine, where: str) -> None:
        """A worker dies at this very point: by a power cut, if there are such."""
        if "power cut" in self._scenario.faults and self._random.random() < 0.5:
            machine.power_cut(self._outage(), where)
        else:
            machine.kill(self._outage(), where)

    def strike_broker(self) -> None:
        """The broker is about to send a message: perhaps it is killed there."""
        if not self.over and "broker killed" in self._scenario.faults and self._random.random() < BROKER_STRIKE_RISK:
            self._simulation.broker.kill(self._outage())

    def pipe_is_full(self) -> bool:
        """Whether the next message cannot be sent although its receiver is there."""
        return not self.over and "full pipes" in self._scenario.faults and self._random.random() < PIPE_FULL_RISK

    def abandonment(self) -> float | None:
        """After how many seconds the next call is given up, if it is."""
        if self.over or "call abandoned" not in self._scenario.faults or self._random.random() >= 0.15:
            return None
        return self._random.choice((0.0, 0.0005, 0.003, 0.5, 2.0)) * self._random.random()

    def lateness(self) -> float:
        """After how many seconds a client goes on with a file that it has open: its machine has other things to do."""
        if self.over or "late messages" not in self._scenario.faults or self._random.random() >= LATE_WORK_RISK:
            return 0.0
        return self._random.random() * LATE_WORK_SECONDS_MAX

    def _strike_later(self) -> None:
        self._simulation.clock.call_in(self._random.expovariate(1 / self._scenario.fault_seconds), self._strike)

    def _strike(self) -> None:
        if not self.over and self._actions:
            self._random.choice(self._actions)()
            self._strike_later()

    def _outage(self) -> float:
        longest = self._random.choice((0.05, 0.5, 2.0, OUTAGE_SECONDS_MAX))
        return self._random.random() * longest

    def _machine(self) -> Machine:
        return self._random.choice(self._simulation.machines)

    def _stop_worker(self, machine: Machine | None = None) -> None:
        """Stop a worker; perhaps another process is started meanwhile, and perhaps it is killed before it goes on."""
        machine = machine or self._machine()
        process = machine.process
        if process is None or not process.runs:
            return
        seconds = self._outage()
        process.stop(seconds)
        then = self._random.random()
        if then < 0.3:
            self._simulation.clock.call_in(seconds * self._random.random(), machine.start)
        elif then < 0.5:
            self._simulation.clock.call_in(seconds * self._random.random(), machine.kill, self._random.random())

    def _cut_power(self) -> None:
        """Of one machine, or of all, the broker's too."""
        if self._random.random() < 0.7:
            self._machine().power_cut(self._outage())
            return
        self._simulation.broker.kill(self._outage())
        for machine in self._simulation.machines:
            machine.power_cut(self._outage())

    def _cut_link(self) -> None:
        sockets = [socket for client in self._simulation.clients for socket in client.life.sockets]
        sockets += [process.socket for machine in self._simulation.machines for process in machine.processes]
        if sockets:  # all may have died at once
            self._random.choice(sockets).cut(self._outage())

    def _break_disk(self, machine: Machine) -> None:
        """One write fails; perhaps the disk is full for a while."""
        machine.disk.failure = disk_error()
        if self._random.random() < 0.5:
            self._simulation.history.note(machine.name, "has a full disk")
            machine.disk.is_full = True
            machine.forgets_touches = True
            self._simulation.clock.call_in(self._outage(), self._make_room, machine)

    def _make_room(self, machine: Machine) -> None:
        self._simulation.history.note(machine.name, "has room on its disk again")
        machine.disk.is_full = False

    def _set_clock(self) -> None:
        machine = self._machine()
        before = machine.disk.clock_offset
        machine.disk.clock_offset = self._random.uniform(-1, 1) * CLOCK_OFFSET_SECONDS
        if machine.disk.clock_offset > before and machine.set_forward_at is None:
            machine.set_forward_at = self._simulation.clock.now
        self._simulation.history.note(machine.name, f"has its clock set wrong by {machine.disk.clock_offset:.0f} s")

    def _write_as_stranger(self) -> None:
        """Somebody sends what is no request: the broker, and through it the workers, must not mind."""
        random = self._random
        opcode = random.choice((protocol.PUT, protocol.BATCH, protocol.PAGE, protocol.PUT_MANY, protocol.CREATE, 99))
        body = random.choice((b"", random.randbytes(9), encode([random.randbytes(70), b"", 7])))
        numbers = (random.getrandbits(32), random.randbytes(16), 1, 1, random.randbytes(16))
        valid = bytes(protocol.pack_request(Request(opcode, random.getrandbits(6), *numbers, b"key", body))[0])
        messages = [[valid], [valid[: random.randrange(len(valid))]], [random.randbytes(80)], [valid, b"more"], [valid] * 4, []]
        socket = Socket(self._simulation.network, "stranger", self._simulation.broker.front, lambda frames: None)
        socket.send(random.choice(messages))
        self._simulation.clock.call_in(1.0, socket.close)
