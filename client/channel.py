"""One line of requests to the service, with neither socket nor clock: numbers them, matches replies, decides what goes again.

A channel is one session. Its requests carry increasing sequence numbers and the lowest one still waiting, so that a worker
knows which outcomes it may forget. A reply whose number nobody waits for (late, of an abandoned call, foreign) is
dropped: neither Ctrl-C nor a cancelled task ever makes a later call read an earlier answer.

A session belongs to one channel rather than to the process: then the lowest waiting number needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from holdall import protocol
from holdall.bodies import Roster, RosterWorker, decode, encode
from holdall.client.ask import Ask
from holdall.client.route import Route
from holdall.errors import ConnectionError, Error, OutcomeUnknown, ProtocolError, TimeoutError
from holdall.protocol import Buffer, Reply, Request
from holdall.slots import SLOTS

RESEND_SECONDS = (0.5, 4.0)
"""How long an answer may take before its request is sent again: at first, and at most; doubled each time, with jitter."""
RESEND_BYTES_PER_SECOND = 20 * 1024 * 1024
"""A large value is given this much longer."""
BATCH_BYTES_MAX = 512 * 1024
BATCH_REQUESTS_MAX = 1_000
_ALONE = frozenset((protocol.ROSTER, protocol.READ_CHUNK))
"""Never in a batch: the broker answers the one itself, and a batch of the others would fill a worker's memory with answers."""


class Waiting(msgspec.Struct, eq=False):
    """A request that has no answer yet, and its worker's route. `answer` is for the driver that waits for it."""

    sequence: int
    ask: Ask
    route: Route
    frames: list[Buffer]
    sent_at: float
    deadline: float
    interval: float
    resend_at: float
    answer: Any = None


class Channel:
    """The requests of one session."""

    def __init__(self, session: bytes, random: Random) -> None:
        self.waiting: dict[int, Waiting] = {}
        self.heard = False
        """Whether the service has ever answered here."""
        self._other_version: int | None = None  # of the service, while nothing has come from one of ours
        self._session = session
        self._random = random
        self._next = 1
        unknown = Route(RosterWorker(0, 0, SLOTS, []), b"", None, random)
        self.route_of_slot = [unknown] * SLOTS
        """The route to the worker that owns each slot."""

    def meet(self, roster: Roster, address_of: Callable[[RosterWorker], str | None]) -> None:
        """Know the workers from now on, and where each may have a lane."""
        for worker in roster.workers:
            route = Route(worker, roster.layout_id, address_of(worker), self._random)
            self.route_of_slot[worker.first_slot : worker.end_slot] = [route] * (worker.end_slot - worker.first_slot)

    def moved(self, route: Route) -> list[Waiting]:
        """The route leads another way than before: what waits for its worker, to be sent again."""
        return [self._again(waiting) for waiting in self.waiting.values() if waiting.route is route]

    def relayed(self) -> list[Waiting]:
        """The connection to the broker is another one than before: what waits there, to be sent again."""
        return [self._again(waiting) for waiting in self.waiting.values() if not waiting.route.is_direct]

    def send(self, ask: Ask, route: Route, now: float, deadline: float) -> Waiting:
        """Number a request to the worker of this route. Its frames are to be sent now."""
        sequence = self._next
        self._next = sequence + 1
        lowest = next(iter(self.waiting)) if self.waiting else sequence
        value = ask.value
        frames = protocol.pack_fields(
            ask.opcode, ask.flags, ask.hash, self._session, sequence, lowest, ask.dict_id, ask.data, value
        )
        interval = RESEND_SECONDS[0] + ask.patience + len(value) / RESEND_BYTES_PER_SECOND
        waiting = Waiting(sequence, ask, route, frames, now, deadline, interval, now + interval)
        self.waiting[sequence] = waiting
        return waiting

    def receive(self, head: bytes, payload: Buffer | None) -> list[tuple[Waiting, Reply]]:
        """The answers in a message, each with the request it is for, which waits no longer."""
        self.heard = True
        try:
            reply = protocol.parse_reply(head, payload)
            self._other_version = None
            if not protocol.is_batch_reply(head):
                return self._matched([reply])
            heads = decode(list[bytes], reply.payload)
            return self._matched([protocol.parse_reply(each) for each in heads])  # all, before the first is given out
        except ProtocolError:  # the request that it may be for is sent again, then times out
            if len(head) >= protocol.REPLY.size and head[0] != protocol.VERSION:
                self._other_version = head[0]
            return []

    def overdue(self, now: float) -> tuple[list[Waiting], list[Waiting]]:
        """Requests to send again now, in order, and requests whose time is over, which wait no longer.

        An answer that is overdue on a lane gives the lane up: then all that waits for this worker goes again.
        """
        again: list[Waiting] = []
        failed: list[Waiting] = []
        lost: list[Route] = []
        for waiting in list(self.waiting.values()):
            if waiting.deadline <= now or waiting.sent_at + protocol.RETRY_SECONDS_MAX <= now:
                del self.waiting[waiting.sequence]
                failed.append(waiting)
            elif waiting.resend_at <= now:
                waiting.interval = min(waiting.interval * 2, max(RESEND_SECONDS[1], waiting.interval))
                waiting.resend_at = now + waiting.interval * self._random.uniform(0.75, 1.25)
                again.append(waiting)
                if waiting.route.is_direct:
                    waiting.route.lose(now)
                    lost.append(waiting.route)
        if lost:
            due = set(again)
            again = [waiting for waiting in self.waiting.values() if waiting in due or waiting.route in lost]
        return [self._again(waiting) for waiting in again], failed

    def abandon(self, waiting: Waiting) -> None:
        """Nobody waits for this answer any more."""
        self.waiting.pop(waiting.sequence, None)

    def abandon_all(self) -> None:
        """Nobody waits for any answer any more."""
        self.waiting.clear()

    def failure(self, waiting: Waiting, url: str, now: float) -> Error:
        """The error for a request whose time is over."""
        if waiting.deadline > now:
            return OutcomeUnknown(
                f"cannot {waiting.ask}: no answer from {url} within {now - waiting.sent_at:.0f} s, "
                "and so late it may not be sent again; whether it happened is unknown"
            )
        elapsed = f"{now - waiting.sent_at:.1f} s"
        outcome = "whether it happened is unknown" if waiting.ask.opcode in protocol.WRITES else "nothing was changed"
        if self._other_version is not None:
            return ConnectionError(
                f"cannot {waiting.ask}: the service at {url} speaks protocol version {self._other_version}, and this client "
                f"version {protocol.VERSION}; {outcome}; start both with the same version of holdall"
            )
        if not self.heard:
            return ConnectionError(
                f"cannot {waiting.ask}: no service answered at {url} within {elapsed}, {outcome}; "
                "start one there with `holdall serve`, or correct HOLDALL_URL"
            )
        return TimeoutError(f"cannot {waiting.ask}: no answer from {url} within {elapsed}; {outcome}")

    def batch(self, group: list[Waiting]) -> list[list[Buffer]]:
        """The messages that carry these requests, all for one worker: together as far as the bounds allow."""
        messages: list[list[Buffer]] = []
        together: list[Buffer] = []
        size = 0
        for waiting in group:
            if len(waiting.frames) > 1 or waiting.ask.opcode in _ALONE:
                if together:  # in the order in which they were asked
                    messages.append(self._batch_message(group[0].ask.hash, together))
                    together, size = [], 0
                messages.append(waiting.frames)
                continue
            if together and (size > BATCH_BYTES_MAX or len(together) == BATCH_REQUESTS_MAX):
                messages.append(self._batch_message(group[0].ask.hash, together))
                together, size = [], 0
            together.append(waiting.frames[0])
            size += len(waiting.frames[0])
        if together:
            messages.append(self._batch_message(group[0].ask.hash, together))
        return messages

    def _batch_message(self, hash_: int, heads: list[Buffer]) -> list[Buffer]:
        if len(heads) == 1:
            return heads
        opcode, body = protocol.BATCH, encode(heads)
        return protocol.pack_request(Request(opcode, 0, hash_, self._session, 0, 0, protocol.NO_DICT, b"", body))

    def _again(self, waiting: Waiting) -> Waiting:
        """With frames that say that it was sent before, and what waits now."""
        waiting.frames = protocol.mark_retry(waiting.frames, next(iter(self.waiting)))
        return waiting

    def _matched(self, replies: list[Reply]) -> list[tuple[Waiting, Reply]]:
        answered: list[tuple[Waiting, Reply]] = []
        for reply in replies:
            if reply.status == protocol.UNAVAILABLE:  # its request is sent again when its time has come
                continue
            waiting = self.waiting.pop(reply.sequence, None)
            if waiting is not None:
                answered.append((waiting, reply))
        return answered
