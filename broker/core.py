"""The broker's decisions, with neither socket nor clock: frames and a time in, frames to send out.

    from clients   [client route, head, payload?]               relayed by the hash in the head, or a ROSTER request
    to workers     [worker route, address, head, payload?]      a request, relayed
                   [worker route, b"", b""]                     is it still connected?
                   [worker route, b"", refusal]                 its HELLO is refused: another process has its part
    from workers   [worker route, address, head, payload?]      a reply, relayed
                   [worker route, b"", HELLO]                   a registration, and a sign of life

    client route = role: 1 byte, route      what `Front` gives and takes
    address = client route, instance: 8 bytes

The instance is this broker's own: a reply to a request that another broker relayed is dropped, since a route means another
client there. A request whose worker is away is parked, within bounds, until the worker registers again. What is for a worker
that has no room is held, and clients are not read meanwhile: ZeroMQ reads them in turns, so each of them has its share of what
the worker can do. Nothing else is kept: kill the broker, start it, and the next HELLOs and retries bring all back.

A part has one worker: while that is there, and has not been silent for too long, another process that says HELLO for the part
is refused, and nothing is sent to it. HELLOs of one process have one instance, which nobody else knows.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import Any, NamedTuple

import msgspec

from holdall import protocol
from holdall.bodies import Hello, Roster, RosterWorker, decode, encode
from holdall.errors import ProtocolError
from holdall.process.config import STUCK_SECONDS
from holdall.protocol import HEAD_BYTES_MAX, Reply
from holdall.slots import SLOTS, slot_of, slot_range

ROUTE_BYTES_MAX = 256
"""A role, and ZeroMQ's own limit for what a peer may call itself. A stranger may say more, which would travel with each of its
messages.
"""
WORKER_CHECK_SECONDS = 0.5
"""How often silent workers are looked for, and each worker is sent an empty message, which finds the ones that are gone."""
HELD_SECONDS = 0.01
"""How soon held messages are tried again at the latest: ZeroMQ does not tell when there is room for large ones."""
SILENT_SECONDS = 3.0
"""A worker that sends nothing for so long is taken for dead: six HELLOs."""
PARKED_SECONDS = 30.0
PARKED_REQUESTS_MAX = 10_000
PARKED_BYTES_MAX = 256 * 1024 * 1024
"""Bounds on what waits for workers that are away; beyond them a request is refused as UNAVAILABLE."""
COMPLAINT_SECONDS = 60.0
"""How often refused registrations are logged: a stranger that sends them without pause must not fill a disk with log."""
RIVALS_MAX = 16
REFUSALS_MAX = 5
"""Processes that are told to leave the part to its worker, and how often each: one that floods must not be flooded."""
ANY_SLOT = -1
"""The slot of a parked ROSTER request: it waits for all workers."""

log = logging.getLogger("holdall.broker")


class Send(NamedTuple):
    """Frames to send: to a worker, or else to a client."""

    to_worker: bool
    frames: list[Any]


class Parked(NamedTuple):
    """A client's message that waits for the worker of its slot."""

    until: float
    slot: int
    bytes: int
    frames: list[Any]


class Owner(msgspec.Struct, eq=False):
    """What the broker knows of a worker, which owns slots: its route, whether it is there, when it was heard last."""

    route: bytes
    instance: bytes
    worker: RosterWorker
    handled: int
    heard: float
    present: bool = True
    rival: Owner | None = None
    """Another process that claims the part, while it is being found out whether this one is gone."""
    rivals: dict[bytes, int] = {}
    """How often the processes that claim the part were heard, by their instances."""


class Broker:
    """Relays between clients and the workers of one layout."""

    def __init__(
        self, instance: bytes, stuck_seconds: float = STUCK_SECONDS, idle_seconds: float | None = None, now: float = 0.0
    ) -> None:
        self.stuck: list[int] = []
        """Workers that have been silent for so long that they are to be replaced. The loop takes them out."""
        self._instance = instance
        self._stuck_seconds = stuck_seconds
        self._idle_seconds = idle_seconds
        self.counts: Counter[str] = Counter()
        self.used_at = now
        self._layout_id = b""
        self._workers = 0
        self._by_index: dict[int, Owner] = {}
        self._by_route: dict[bytes, Owner] = {}
        self._owners: list[Owner | None] = [None] * SLOTS
        self._parked: deque[Parked] = deque()
        self._parked_bytes = 0
        self._held: dict[bytes, list[list[Any]]] = {}
        """Messages for workers that have no room, by the worker's route, in order."""
        self._check_due = self._held_due = 0.0
        self._complaint_due = 0.0
        self._checked_at = 0.0

    def from_client(self, frames: list[Any], now: float) -> list[Send]:
        if len(frames[0]) > ROUTE_BYTES_MAX:
            self.counts["malformed"] += 1
            return []
        self.used_at = now
        try:
            if not 2 <= len(frames) <= 3:
                raise ProtocolError(f"a request has one or two frames, this one {len(frames) - 1}")
            if len(frames[1]) > HEAD_BYTES_MAX:
                raise ProtocolError(f"the head of a request has at most {HEAD_BYTES_MAX:,} bytes, this one {len(frames[1]):,}")
            slot = slot_of(protocol.routing_hash(frames[1]))
        except ProtocolError as error:
            return self._refuse(frames, protocol.MALFORMED, str(error))
        if frames[1][1] == protocol.ROSTER:
            return self._roster(frames, now)
        owner = self._owners[slot]
        if owner is None or not owner.present:
            return self._park(slot, frames, now)
        return [self._to_worker(owner, frames)]

    def from_worker(self, frames: list[Any], now: float) -> list[Send]:
        if not 3 <= len(frames) <= 4 or len(frames[0]) > ROUTE_BYTES_MAX:
            self.counts["malformed"] += 1
            return []
        if frames[1] == b"":
            return self._hello(frames, now)
        owner = self._by_route.get(frames[0])
        if owner is None:
            self.counts["replies of strangers dropped"] += 1
            return []
        owner.heard = now  # one that was silent in a long tick answers before it says HELLO
        if not frames[1].endswith(self._instance):
            self.counts["replies to another broker's clients dropped"] += 1
            return []
        return [Send(False, [self._client_of(frames[1]), *frames[2:]])]

    def unreachable(self, frames: list[Any], now: float) -> list[Send]:
        """A message to a worker could not be sent: the worker is gone. Its request is parked, or goes to its successor."""
        owner = self._by_route.get(frames[0])
        sends: list[Send] = []
        if owner is not None:
            self._drop(owner, "cannot be reached")
            if owner.rival is not None:
                sends = self._register(owner.rival, now)
        if frames[1] == b"":
            return sends
        request = [self._client_of(frames[1]), *frames[2:]]
        slot = slot_of(protocol.routing_hash(request[1]))
        successor = self._owners[slot]
        if successor is None or not successor.present:
            return self._park(slot, request, now)
        return [*sends, self._to_worker(successor, request)]

    def forget(self, routes: list[bytes]) -> None:
        """These clients may no longer be here: nothing of theirs is sent on any more."""
        gone = set(routes)
        kept = [each for each in self._parked if each.frames[0][1:] not in gone]
        self._parked, self._parked_bytes = deque(kept), sum(each.bytes for each in kept)
        for route, messages in self._held.items():
            self._held[route] = [each for each in messages if self._client_of(each[1])[1:] not in gone]

    def holds(self, route: bytes) -> bool:
        """Whether something is held for the worker of this route: what is for it has to wait too."""
        return route in self._held

    @property
    def is_holding(self) -> bool:
        """Whether something is held for any worker: no client is to be read."""
        return bool(self._held)

    def hold(self, frames: list[Any], now: float) -> None:
        """The worker of this message has no room for it."""
        if not self._held:
            self._held_due = now + HELD_SECONDS
        self._held.setdefault(frames[0], []).append(frames)

    def try_held(self, now: float) -> list[Send]:
        """What is held, in order, to be tried again; what is for workers that are gone is decided upon anew."""
        held, self._held = self._held, {}
        sends: list[Send] = []
        for route, messages in held.items():
            owner = self._by_route.get(route)
            if owner is not None and owner.present:
                sends += [Send(True, frames) for frames in messages]
            else:
                for frames in messages:
                    sends += self.unreachable(frames, now)
        return sends

    @property
    def due(self) -> float:
        return min(self._check_due, self._held_due) if self._held else self._check_due

    def timers(self, now: float) -> list[Send]:
        """What is due by now."""
        sends: list[Send] = []
        if self._held and now >= self._held_due:
            sends += self.try_held(now)
        if now >= self._check_due:
            self._check_due = now + WORKER_CHECK_SECONDS
            sends += self.check_workers(now)
        return sends

    def is_idle(self, now: float) -> bool:
        """Whether the service was not used for its idle time."""
        return self._idle_seconds is not None and now - self.used_at > self._idle_seconds

    def check_workers(self, now: float) -> list[Send]:
        """What the passing of time demands: drop silent workers, find those that are gone, refuse what was parked too long."""
        stopped = now - self._checked_at > SILENT_SECONDS
        self._checked_at = now
        for owner in self._by_index.values():
            if stopped:  # this process itself: what they said meanwhile is still to be read
                owner.heard = now
            if owner.present and owner.heard + SILENT_SECONDS < now:
                self._drop(owner, f"has said nothing for {SILENT_SECONDS:g} s")
            if owner.heard + self._stuck_seconds < now:
                owner.heard = now  # it is given as much time again
                self.stuck.append(owner.worker.index)
        sends = [Send(True, [owner.route, b"", b""]) for owner in self._by_index.values() if owner.present]
        while self._parked and self._parked[0].until < now:
            parked = self._parked.popleft()
            self._parked_bytes -= parked.bytes
            sends += self._refuse(parked.frames, protocol.UNAVAILABLE, "its worker did not come back")
        return sends

    def _to_worker(self, owner: Owner, frames: list[Any]) -> Send:
        return Send(True, [owner.route, frames[0] + self._instance, *frames[1:]])

    def _client_of(self, address: bytes) -> bytes:
        return address[: -len(self._instance)]

    def _hello(self, frames: list[Any], now: float) -> list[Send]:
        try:
            hello = decode(Hello, protocol.parse_request(*frames[2:]).value)
            if not 0 <= hello.worker.index < hello.workers <= SLOTS:
                raise ProtocolError("a HELLO with an impossible index")
            if slot_range(hello.worker.index, hello.workers) != (hello.worker.first_slot, hello.worker.end_slot):
                raise ProtocolError("a HELLO with slots that are not its worker's")
        except ProtocolError as error:
            self.counts["malformed"] += 1
            self._complain(error, now)
            return []
        if (self._layout_id, self._workers) not in ((b"", 0), (hello.layout_id, hello.workers)):
            self.counts["workers of another layout refused"] += 1
            return []
        self._layout_id, self._workers = hello.layout_id, hello.workers
        owner = self._by_index.get(hello.worker.index)
        if owner is None or (owner.route, owner.instance) != (frames[0], hello.instance):
            claims = Owner(frames[0], hello.instance, hello.worker, hello.handled, now)
            if owner is not None and owner.present and owner.instance != hello.instance:
                return self._fence(owner, claims)
            return self._register(claims, now)
        if owner.handled != hello.handled:
            self.used_at = now
        owner.handled = hello.handled
        owner.heard = now
        if not owner.present:
            owner.present = True
            return self._release(now)
        return []

    def _complain(self, error: ProtocolError, now: float) -> None:
        if now >= self._complaint_due:
            self._complaint_due = now + COMPLAINT_SECONDS
            log.warning("a worker's registration was refused, as %d messages before: %s", self.counts["malformed"] - 1, error)

    def _fence(self, owner: Owner, rival: Owner) -> list[Send]:
        """Refuse a process that claims the part of a worker, once that turns out to be there: at first it is sent something."""
        heard = owner.rivals.get(rival.instance, 0)
        if heard > REFUSALS_MAX or (not heard and len(owner.rivals) == RIVALS_MAX):
            self.counts["rivals ignored"] += 1
            return []
        owner.rivals[rival.instance] = heard + 1
        owner.rival = None if heard else rival
        if not heard:
            return [Send(True, [owner.route, b"", b""])]
        index = rival.worker.index
        why = f"a second process says that it is worker {index}, and is refused: the first one is there; end one of the two"
        if heard == 1:
            log.error("%s", why)
        return [Send(True, [rival.route, b"", *protocol.pack_reply(Reply(protocol.INVALID, 0, 0, why.encode()))])]

    def _register(self, owner: Owner, now: float) -> list[Send]:
        worker = owner.worker
        log.info("worker %d registered", worker.index)
        old = self._by_index.get(worker.index)
        if old is not None:
            self._by_route.pop(old.route, None)
        self._by_index[worker.index] = self._by_route[owner.route] = owner
        for slot in range(worker.first_slot, worker.end_slot):
            self._owners[slot] = owner
        return self._release(now)

    def _drop(self, owner: Owner, why: str) -> None:
        if owner.present:
            log.warning("worker %d %s", owner.worker.index, why)
        owner.present = False

    def _roster(self, frames: list[Any], now: float) -> list[Send]:
        if not self._by_index or len(self._by_index) < self._workers:
            return self._park(ANY_SLOT, frames, now)
        workers = [owner.worker for _index, owner in sorted(self._by_index.items())]
        body = encode(Roster(self._layout_id, workers))
        reply = Reply(protocol.OK, protocol.sequence_of(frames[1]), 0, body)
        return [Send(False, [frames[0], *protocol.pack_reply(reply)])]

    def _park(self, slot: int, frames: list[Any], now: float) -> list[Send]:
        size = sum(map(len, frames))
        if len(self._parked) >= PARKED_REQUESTS_MAX or self._parked_bytes + size > PARKED_BYTES_MAX:
            return self._refuse(frames, protocol.UNAVAILABLE, "its worker is away and too much waits for it already")
        self._parked.append(Parked(now + PARKED_SECONDS, slot, size, frames))
        self._parked_bytes += size
        return []

    def _release(self, now: float) -> list[Send]:
        """Send what was parked and can go now; the rest is parked again, in its order."""
        parked, self._parked, self._parked_bytes = self._parked, deque(), 0
        sends: list[Send] = []
        for each in parked:
            owner = self._owners[each.slot] if each.slot != ANY_SLOT else None
            if owner is not None and owner.present:
                sends.append(self._to_worker(owner, each.frames))
            elif each.slot == ANY_SLOT and self._by_index and len(self._by_index) >= self._workers:
                sends += self._roster(each.frames, now)
            else:
                self._parked.append(each)
                self._parked_bytes += each.bytes
        return sends

    def _refuse(self, frames: list[Any], status: int, text: str) -> list[Send]:
        self.counts["refused"] += 1
        sequence = protocol.sequence_of(frames[1]) if len(frames) > 1 else 0
        return [Send(False, [frames[0], *protocol.pack_reply(Reply(status, sequence, 0, text.encode()))])]
