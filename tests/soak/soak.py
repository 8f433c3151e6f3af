"""One run: a service and its clients, real processes all, faults and calls chosen by a seed, every call judged.

storm       clients call while processes are killed and stopped and the disk is full; generations that are over are judged
quiet       faults and clients have ended, and the service is started again: nothing of a call is under way any more
last look   every key that was ever used is read, and what the history says must be there is
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from holdall import Client, Dict
from holdall.errors import Error
from holdall.process import child
from holdall.process.config import Sync
from tests.network.hosts import Around, Host
from tests.simulation.history import Call
from tests.simulation.linearizability import ABSENT
from tests.simulation.simulation import Violation
from tests.soak.client import FAILURES, ClientSettings
from tests.soak.faults import Faults
from tests.soak.ledger import DICT, SILENT_SECONDS_MAX, Ledger
from tests.soak.record import parse
from tests.soak.service import Service
from tests.soak.workload import SHAPES, key_of, name_of

TIMEOUTS = (1.5, 4.0, 10.0)
"""Of calls, in seconds: some end while something is broken, some outlive it."""
PAUSE_SECONDS = 0.003
LOOK_SECONDS_MAX = 60.0
"""How long reading a key may take, again and again, while things go wrong."""
READ_BYTES = 1 << 16
FAULTS_TOLD = 20
"""The last faults before a violation are told with it."""
ROOT = Path(__file__).parents[2]


class Plan(NamedTuple):
    """What a run is to be. It lasts until it has made so many calls among so many faults; with `seconds`, so long."""

    seed: int
    operations: int = 100_000
    clients: int = 8
    faults: int = 200
    seconds: float | None = None
    workers: int = 3
    sync: Sync = "always"
    lanes: bool = True
    """Whether clients have them; without, everything goes through the broker."""
    stop_seconds: float = 5.0
    late_seconds: float = 1.0
    """By how much a call may overrun its timeout: beyond it hangs."""
    hosts: int = 0
    """How many other hosts clients are on, behind cables that delay, lose and are cut; 0: all are on this one."""


class SoakClient:
    """A client process, and what has been read of its record."""

    def __init__(self, settings: ClientSettings, log: Path, host: Host | None) -> None:
        self.settings = settings
        self.killed = False
        self._rest = b""
        argv = child.command("tests.soak.client", settings)
        argv = argv if host is None else host.command(*argv)
        with open(log, "a") as errors:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=child.environment()
            )
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        self.output = self.process.stdout
        self._input = self.process.stdin

    def read(self) -> list[bytes] | None:
        """Lines that have arrived; None at the end."""
        data = os.read(self.output.fileno(), READ_BYTES)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def go_on_with(self, generation: int) -> None:
        """Have it use the keys of this generation."""
        try:
            self._input.write(b"%d\n" % generation)
            self._input.flush()
        except BrokenPipeError:  # it has just been killed
            pass

    def end(self) -> None:
        """Have it end, once its calls have."""
        try:
            self._input.close()
        except BrokenPipeError:
            pass

    def kill(self) -> None:
        """Kill it."""
        self.killed = True
        self.process.kill()


class Soak:
    """The run of a plan, with its data in `data`: a small disk of its own, that can be filled, or not."""

    def __init__(self, plan: Plan, data: Path, logs: Path, *, can_be_full: bool, tell: Callable[[Soak], None]) -> None:
        self.plan = plan
        self.ledger = Ledger(plan.late_seconds)
        self._random = Random(plan.seed)
        self._chance_of_kills = Random(f"kills {plan.seed}")  # of the faults' thread
        self._clients_log = logs / "clients.log"
        self._stack = ExitStack()
        self._around = Around(plan.hosts, data / "store", self._stack) if plan.hosts else None
        listen = [self._around.listen] if self._around is not None else []
        self._service = Service(data / "store", plan.workers, plan.sync, logs / "service.log", listen)
        disk = data if can_be_full else None
        apart = plan.operations // max(1, plan.faults)
        cables = self._around.cables if self._around is not None else []
        self.faults = Faults(Random(f"faults {plan.seed}"), self._service, self, disk, apart, plan.stop_seconds, cables)
        self._tell = tell
        self._clients: list[SoakClient] = []
        self._made = 0
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._looking: tuple[int, Future[list[Call]]] | None = None

    def run(self) -> None:
        """Run to the end. Raises Violation."""
        self._service.start()
        try:
            with ThreadPoolExecutor(1) as pool, Client(self._service.url, lanes=self.plan.lanes) as client:
                self._d: Dict[Any, str] = Dict.from_name(DICT, create_if_missing=True, client=client).hydrate()
                self._storm(pool)
                self._quiet()
                self._last_look()
                self._service.check_log()
        except Violation as violation:
            log = "\n".join(f"{at:10.3f}  {what}" for at, what in self.faults.log[-FAULTS_TOLD:])
            raise Violation(f"seed {self.plan.seed}, at {self.ledger.seconds():.3f} s: {violation}\n\nfaults:\n{log}") from None
        finally:
            for each in self._clients:
                each.kill()
                each.process.wait()
                each.end()
                each.output.close()
            self.faults.end()
            self._service.kill()
            self._selector.close()
            self._stack.close()

    def answered(self) -> int:
        """How many calls have been."""
        return self.ledger.answered

    def now(self) -> float:
        """Seconds since the run began."""
        return self.ledger.seconds()

    def kill_a_client(self) -> bool:
        """Kill one of the clients that wait for an answer. Returns whether there was one."""
        calling = [each for each in list(self._clients) if self.ledger.is_calling(each.settings.name)]
        if calling:
            self._chance_of_kills.choice(calling).kill()
        return bool(calling)

    def _storm(self, pool: ThreadPoolExecutor) -> None:
        try:
            for number in range(self.plan.clients):
                self._start_client(number)
            self.faults.begin()
            while not self._is_done():
                self._read(0.05)
                if self.ledger.begin_generation():
                    for each in self._clients:
                        each.go_on_with(self.ledger.generation)
                self._judge(pool)
                self.ledger.check_for_hangs()
                self.faults.check()
                self._tell(self)
        finally:
            self.faults.end()
        self.faults.check()

    def _is_done(self) -> bool:
        plan = self.plan
        if plan.seconds is not None:
            return self.ledger.seconds() > plan.seconds
        return self.ledger.answered >= plan.operations and self.faults.counts.total() >= plan.faults

    def _start_client(self, number: int) -> None:
        self._made += 1
        around, at = self._around, number % max(1, self.plan.hosts)
        settings = ClientSettings(
            name=f"{number}.{self._made}",
            url=self._service.url,
            dict=DICT,
            timeout=self._random.choice(TIMEOUTS),
            threads=3 if number == 0 else 0 if number % 4 == 1 else 1,
            tasks=4 if number % 4 == 1 else 0,
            seed=self.plan.seed,
            generation=self.ledger.generation,
            pause_seconds=PAUSE_SECONDS,
            lanes=self.plan.lanes,
            connection=None if around is None else str(around.connection(at)),
        )
        client = SoakClient(settings, self._clients_log, None if around is None else around.hosts[at])
        self.ledger.join(settings)
        self._clients.append(client)
        self._selector.register(client.output, selectors.EVENT_READ, (number, client))

    def _read(self, wait_seconds: float) -> None:
        for ready, _events in self._selector.select(wait_seconds):
            number, client = ready.data
            lines = client.read()
            if lines is None:
                self._gone(number, client)
            else:
                for line in lines:
                    self.ledger.note(client.settings.name, parse(line))

    def _gone(self, number: int, client: SoakClient) -> None:
        """A client has ended: after its last line, and what it had not told when it was killed nobody knows."""
        self._selector.unregister(client.output)
        status = client.process.wait()
        client.end()
        client.output.close()
        self._clients.remove(client)
        self.ledger.leave(client.settings)
        if not client.killed and (status or not self._stopping):
            raise Violation(f"client {client.settings.name} ended by itself, with status {status}: see {self._clients_log}")
        if not self._stopping:
            self._start_client(number)

    def _judge(self, pool: ThreadPoolExecutor) -> None:
        """Have the next generation that is over looked at, and judge the one that has been."""
        if self._looking is not None:
            generation, look = self._looking
            if not look.done():
                return
            self.ledger.judge(generation, look.result())
            self._looking = None
        over = self.ledger.is_over()
        if over is not None:
            self._looking = over, pool.submit(self._look, over)

    def _look(self, generation: int) -> list[Call]:
        """Read all keys of a generation."""
        return [self._look_at(generation, number) for number in range(len(SHAPES))]

    def _look_at(self, generation: int, number: int) -> Call:
        give_up_at = time.monotonic() + LOOK_SECONDS_MAX
        while True:
            invoked = self.ledger.seconds()
            try:
                value: Any = self._d.get(key_of(generation, number))
                found = ABSENT if value is None else name_of(value)
                return self.ledger.look(generation, number, found, invoked)
            except FAILURES as error:
                if time.monotonic() > give_up_at:
                    raise Violation(f"{key_of(generation, number)!r} cannot be read: {error}") from None
            except Error as error:
                raise Violation(f"{key_of(generation, number)!r} cannot be read: {error}") from error

    def _quiet(self) -> None:
        """Let the clients end, and then the service, with all that is on its way: whatever has not happened never will."""
        self._stopping = True
        for each in self._clients:
            each.end()
        give_up_at = time.monotonic() + max(TIMEOUTS) + self.plan.late_seconds + SILENT_SECONDS_MAX
        while self._clients:
            self._read(0.1)
            if time.monotonic() > give_up_at:
                names = ", ".join(each.settings.name for each in self._clients)
                raise Violation(f"these clients do not end: {names}")
        self._service.check()
        self._service.end()
        self._service.start()

    def _last_look(self) -> None:
        """Read everything in several ways, which must agree, and judge it all."""
        if self._looking is not None:
            generation, look = self._looking
            self.ledger.judge(generation, look.result())
        for generation in range(self.ledger.generation + 1):
            self.ledger.judge(generation, self._look(generation))
        got = {key: value for values in self.ledger.values.values() for key, value in values.items() if value is not ABSENT}
        items = {key: name_of(value) for key, value in self._d.items()}
        contained = [key for values in self.ledger.values.values() for key in values if key in self._d]
        if not len(self._d) == len(items) == len(got) or items != got or set(contained) != set(got):
            lengths = f"len {len(self._d)}, items {len(items)}, get {len(got)}, contains {len(contained)}"
            raise Violation(f"the last look does not agree with itself: {lengths}, {items.items() ^ got.items()}")
