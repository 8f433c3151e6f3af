"""A session: one sequence of requests to the service, with neither socket nor clock.

1. Requests carry increasing sequence numbers and the lowest one still pending, so that a worker knows which outcomes it may
   forget. A reply whose number is not pending (late, of an abandoned call, foreign) is dropped: neither Ctrl-C nor a
   cancelled task ever makes a later call read an earlier answer.
2. Each request goes to the worker that owns its hash, by the worker's link:

       relayed ── PROBE answered ──▶ direct ── cannot be sent, or an answer is overdue ──▶ relayed, and probed again later

   A link is direct only after the worker itself has answered a PROBE on its lane with the layout's id and its number: the path
   in the roster may lead to another service on this machine, and another service's slots are none of ours.
3. What is to be sent leaves in the order in which it was asked. When a link becomes direct, or is lost, all that is pending at
   its worker is sent again by the link as it is now; so is all that was relayed when the connection to the broker is another
   one.

A session belongs to one driver rather than to the process: then the lowest pending number needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import msgspec

from holdall import protocol
from holdall.bodies import Identity, Roster, RosterWorker, decode, encode
from holdall.errors import AuthError, ConnectionError, Error, OutcomeUnknown, ProtocolError, TimeoutError
from holdall.framing import Received
from holdall.protocol import Buffer, Reply
from holdall.slots import SLOT_SHIFT, SLOTS

from .query import Query
from .transport import Transport

RESEND_SECONDS = (0.5, 4.0)
"""How long an answer may take before its request is sent again: at first, and at most; doubled each time, with jitter."""
RESEND_BYTES_PER_SECOND = 20 * 1024 * 1024
"""A large value is given this much longer."""
PROBE_SECONDS = (0.002, 5.0)
"""How soon a worker is probed again that did not answer a probe, or was given up: at first, and at most; doubled each time."""
STEADY_LINK_SECONDS = 10.0
"""A link that was direct for so long is probed again as soon as at first when it is lost."""
BATCH_BYTES_MAX = 512 * 1024
BATCH_REQUESTS_MAX = 1_000
_ALONE = protocol.LARGE_ANSWERS | {protocol.ROSTER, protocol.MAKE_FILE, protocol.OPEN_FILE}
"""Never in a batch: a worker takes none with large answers, the broker answers the first itself, and a file comes alone."""


class Link:
    """How one worker is reached: through the broker always, by `lane` while it is direct."""

    def __init__(self, worker: RosterWorker, layout_id: bytes, address: str | None, random: Random) -> None:
        self.address = address
        """Where the worker may have a lane."""
        self.hash = worker.hash
        self.is_direct = False
        self.lane: Transport | None = None
        """The one that the driver has opened last."""
        self.probe_at = 0.0
        self._identity = encode(Identity(layout_id, worker.index))
        self._random = random
        self._nonce = 0
        self._interval = PROBE_SECONDS[0]
        self._direct_at = 0.0

    def probe(self, now: float) -> list[Buffer] | None:
        """The message that asks the worker for its identity, to be sent by its lane, if it is time for that."""
        if self.is_direct or self.address is None or now < self.probe_at:
            return None
        self._nonce = self._random.getrandbits(63) | 1
        self._postpone(now)
        nobody = protocol.NO_SESSION
        return protocol.pack_fields(protocol.PROBE, 0, self.hash, nobody, self._nonce, 0, protocol.NO_DICT, b"", b"")

    def is_proved_by(self, head: bytes, now: float) -> bool:
        """Whether this message, which came by the lane, answers the probe: from now on the link is direct."""
        try:
            proved = protocol.parse_reply(head) == Reply(protocol.OK, self._nonce, 0, self._identity)
        except ProtocolError:
            return False
        if proved:
            self.is_direct = True
            self._direct_at = now
        return proved

    def lose(self, now: float) -> None:
        """Be relayed for a while."""
        self.is_direct = False
        if now - self._direct_at > STEADY_LINK_SECONDS:
            self._interval = PROBE_SECONDS[0]
        self._postpone(now)

    def _postpone(self, now: float) -> None:
        self.probe_at = now + self._interval * self._random.uniform(0.75, 1.25)
        self._interval = min(self._interval * 2, PROBE_SECONDS[1])


class Pending(msgspec.Struct, eq=False):
    """A request that has no reply yet. `waiter` is for the driver."""

    sequence: int
    query: Query
    link: Link
    frames: list[Buffer]
    asked_at: float
    deadline: float
    interval: float
    resend_at: float
    is_sent: bool = False
    reply: Reply | None = None
    waiter: Any = None


class Session:
    """The requests of one driver."""

    def __init__(self, session_id: bytes, random: Random) -> None:
        self.pending: dict[int, Pending] = {}
        """By their numbers, in order."""
        self.heard = False
        """Whether the service has ever answered here."""
        self.links: list[Link] = []
        """To each worker, once they are known."""
        self.outbox: dict[int, Pending] = {}
        """What is to be sent, by number, in order."""
        self._other_version: int | None = None  # of the service, while nothing has come from one of ours
        self._id = session_id
        self._random = random
        self._next = 1
        unknown = Link(RosterWorker(0, 0, SLOTS, []), b"", None, random)
        self._link_of_slot = [unknown] * SLOTS

    def meet(self, roster: Roster, address_of: Callable[[RosterWorker], str | None]) -> None:
        """Know the workers from now on, and where each may have a lane."""
        for worker in roster.workers:
            link = Link(worker, roster.layout_id, address_of(worker), self._random)
            self.links.append(link)
            self._link_of_slot[worker.first_slot : worker.end_slot] = [link] * (worker.end_slot - worker.first_slot)

    def ask(self, query: Query, now: float, deadline: float) -> Pending:
        """Number a request; it is `outgoing` from now on. Raises TimeoutError if its time is over, whatever was answered."""
        if deadline <= now:
            raise TimeoutError(f"cannot {query}: the time of the call was over before this was asked")
        sequence = self._next
        self._next = sequence + 1
        lowest = next(iter(self.pending)) if self.pending else sequence
        value = query.value
        frames = protocol.pack_fields(
            query.opcode, query.flags, query.hash, self._id, sequence, lowest, query.dict_id, query.key, value
        )
        interval = RESEND_SECONDS[0] + query.patience + len(value) / RESEND_BYTES_PER_SECOND
        link = self._link_of_slot[query.hash >> SLOT_SHIFT]
        pending = Pending(sequence, query, link, frames, now, deadline, interval, now + interval)
        self.pending[sequence] = self.outbox[sequence] = pending
        return pending

    def outgoing(self) -> list[tuple[Link, list[list[Buffer]]]]:
        """The messages to be sent now, for each worker in order; they count as sent."""
        outbox, self.outbox = self.outbox, {}
        groups: dict[Link, list[Pending]] = {}
        for pending in outbox.values():
            if pending.is_sent:
                pending.frames = protocol.mark_retry(pending.frames, next(iter(self.pending)))
            pending.is_sent = True
            groups.setdefault(pending.link, []).append(pending)
            if not pending.query.wants_reply:
                del self.pending[pending.sequence]
        messages: list[tuple[Link, list[list[Buffer]]]] = []
        for link, group in groups.items():
            messages.append((link, [group[0].frames] if len(group) == 1 else self._messages(group)))
        return messages

    def receive(self, link: Link | None, received: Received, now: float) -> list[Pending]:
        """The requests that a message answers, each with its reply; `link` is its lane's, None: it came from the broker."""
        head = received.head
        if link is not None and not link.is_direct and link.is_proved_by(head, now):
            self._send_again(pending for pending in self.pending.values() if pending.link is link)
            return []
        self.heard = True
        try:
            reply = received.reply or protocol.parse_reply(head, received.payload, received.file)
            self._other_version = None
            replies = [reply]
            if received.reply is None and head[protocol.FLAGS_OFFSET] & protocol.BATCHED:
                replies = [protocol.parse_reply(each) for each in decode(list[bytes], reply.payload)]
        except ProtocolError:  # the request that it may be for is sent again, then times out
            if len(head) >= protocol.REPLY.size and head[0] != protocol.VERSION:
                self._other_version = head[0]
            return []
        answered: list[Pending] = []
        for reply in replies:
            if reply.status == protocol.UNAVAILABLE:  # its request is sent again when its time has come
                continue
            pending = self.pending.pop(reply.sequence, None)
            if pending is not None:
                self.outbox.pop(reply.sequence, None)
                pending.reply = reply
                answered.append(pending)
        return answered

    def lose(self, link: Link, now: float) -> None:
        """The lane is gone: all that is pending at its worker goes through the broker."""
        link.lose(now)
        self._send_again(pending for pending in self.pending.values() if pending.link is link)

    def reconnected(self) -> None:
        """The connection to the broker is another one than before: what was sent there may be lost, and goes again."""
        self._send_again(pending for pending in self.pending.values() if not pending.link.is_direct)

    def overdue(self, now: float) -> tuple[list[Pending], list[Pending]]:
        """Requests to be sent again, and those whose time is over. An answer that is overdue on a lane gives the lane up."""
        again: list[Pending] = []
        failed: list[Pending] = []
        for pending in list(self.pending.values()):
            if pending.deadline <= now or pending.asked_at + protocol.RETRY_SECONDS_MAX <= now:
                self.abandon(pending)
                failed.append(pending)
            elif pending.resend_at <= now:
                pending.interval = min(pending.interval * 2, max(RESEND_SECONDS[1], pending.interval))
                pending.resend_at = now + pending.interval * self._random.uniform(0.75, 1.25)
                again.append(pending)
        self._send_again(again)
        for pending in again:
            if pending.link.is_direct:
                self.lose(pending.link, now)
        return again, failed

    def abandon(self, pending: Pending) -> None:
        self.pending.pop(pending.sequence, None)
        self.outbox.pop(pending.sequence, None)

    def abandon_all(self) -> None:
        self.pending.clear()
        self.outbox.clear()

    def failure(self, pending: Pending, url: str, now: float, trouble: str = "") -> Error:
        query, seconds = pending.query, now - pending.asked_at
        if pending.deadline > now:
            return OutcomeUnknown(
                f"cannot {query}: no answer from {url} within {seconds:.0f} s, "
                "and so late it may not be sent again; whether it happened is unknown"
            )
        outcome = "whether it happened is unknown" if query.opcode in protocol.WRITES else "nothing was changed"
        if self._other_version is not None:
            return ConnectionError(
                f"cannot {query}: the service at {url} speaks protocol version {self._other_version}, and this client "
                f"version {protocol.VERSION}; {outcome}; start both with the same version of holdall"
            )
        if not self.heard:
            return ConnectionError(
                f"cannot {query}: no service answered at {url} within {seconds:.1f} s, {outcome}; "
                f"{trouble or 'start one there with `holdall serve`, or correct HOLDALL_URL'}"
            )
        return TimeoutError(
            f"cannot {query}: no answer from {url} within {seconds:.1f} s; {outcome}{trouble and f'; {trouble}'}"
        )

    def refusal(self, pending: Pending, url: str) -> Error:
        """The error of a request of a client whose key does not come in."""
        outcome = "whether it happened is unknown" if pending.query.opcode in protocol.WRITES else "nothing was changed"
        return AuthError(
            f"cannot {pending.query}: the service at {url} does not let this key in (it was removed, has expired, or is "
            f"another service's), {outcome}; take a new one: `holdall keys new`, where the service is"
        )

    def _send_again(self, chosen: Iterable[Pending]) -> None:
        self.outbox.update((pending.sequence, pending) for pending in chosen)
        self.outbox = dict(sorted(self.outbox.items()))

    def _messages(self, group: list[Pending]) -> list[list[Buffer]]:
        """The messages that carry these requests, all for one worker: together as far as the bounds allow."""
        messages: list[list[Buffer]] = []
        together: list[Buffer] = []
        size = 0
        for pending in group:
            is_alone = len(pending.frames) > 1 or pending.query.opcode in _ALONE
            if together and (is_alone or size > BATCH_BYTES_MAX or len(together) == BATCH_REQUESTS_MAX):
                messages.append(self._batch(group[0].query.hash, together))
                together, size = [], 0
            if is_alone:
                messages.append(pending.frames)
            else:
                together.append(pending.frames[0])
                size += len(pending.frames[0])
        if together:
            messages.append(self._batch(group[0].query.hash, together))
        return messages

    def _batch(self, hash_: int, heads: list[Buffer]) -> list[Buffer]:
        if len(heads) == 1:
            return heads
        return protocol.pack_fields(protocol.BATCH, 0, hash_, self._id, 0, 0, protocol.NO_DICT, b"", encode(heads))
