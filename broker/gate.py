"""The broker's ROUTER for clients elsewhere: CurveZMQ, and who may come in.

1. ZeroMQ asks here about each handshake (ZAP): a key comes in while it is allowed. Whoever has none never gets so far.
2. The key goes with each message (User-Id), and is looked up for each: what comes by a key that was removed is dropped.
3. ZeroMQ cannot end a connection. The system can: the descriptor of each is known, and is shut down when its key is removed.
   One that has said nothing yet is nobody's, and is shut down with any.
4. The gate knocks at itself, when it begins, when keys have changed, and now and then: a random key must be refused, and one of
   its own come in. A broker whose gate lets a stranger in ends.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message
from zmq.utils.z85 import encode as z85

from holdall import sockets
from holdall.errors import AuthError, Error
from holdall.process.listen import listen

from . import unread
from .knock import Knock
from .router import MESSAGES_PER_TURN, Router

if TYPE_CHECKING:
    from holdall.process.keyring import Allowed, Keyring
    from holdall.process.poller import SystemPoller

HANDSHAKES_PER_TURN = 50
EVENTS_PER_TURN = 1_000
FRAMES_PER_TURN = 10_000
"""Of a message of which nothing is used. Who sends more of them is cut off."""
CONNECTIONS_MAX = 10_000
"""Beyond so many at once a key is told to come again later."""
LEFT_SECONDS = 60.0
"""For how long it is known whose a connection was that has ended: longer than anything waits for a worker."""
KNOCK_SECONDS = 30.0
"""How often the gate knocks at itself."""
KNOCK_SECONDS_MAX = 2 * sockets.HANDSHAKE_MILLISECONDS / 1000
COMPLAINT_SECONDS = 60.0
HANDSHAKE_COPIES = 6
FORGIVEN_MAX = 64 * 1024
"""Of one that says so much without a message, while memory is short, it may be one without end: it may come again."""
NAME_BYTES_MAX = 5
"""Of the name that ZeroMQ gives a client, which begins with 0. No client of ours takes another one."""
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_NOTED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _REFUSED
"""Not EVENT_ACCEPT_FAILED, of which there are 100,000 in a second while there are no descriptors left."""
_ANYWHERE = re.compile(r"//(0\.0\.0\.0|\[::\])")

log = logging.getLogger("holdall.broker")


class Connection(msgspec.Struct):
    """One that was accepted: its descriptor, who is at the other end, and once it has said something its route and its key."""

    descriptor: int
    route: bytes = b""
    key: str = ""
    peer: object = None
    since: float = 0.0
    """When it was accepted; of one that has ended: when it had."""
    taken: int = 0
    """How many bytes of its messages have been read, as they came."""
    counted_at: float = 0.0
    forgiven: int = 0
    """What has come besides messages, as far as was known at that time, since the last one."""

    def unread(self, now: float) -> int:
        """How many bytes have come by it, and are not read yet. If none are, it is counted from here on."""
        with contextlib.suppress(OSError), _borrowed(self.descriptor) as borrowed:
            received = unread.received_bytes(borrowed)
            seconds = min(now - max(self.counted_at, self.since), KNOCK_SECONDS_MAX + KNOCK_SECONDS)
            found = received - self.taken - int(seconds * unread.SIGNS_PER_SECOND)
            if found > 0:  # what it says of itself in the handshake ZeroMQ keeps several times
                return found if self.route else found * HANDSHAKE_COPIES
            self.forgiven += received - self.taken
            self.taken, self.counted_at = received, now
        return 0


class Gate:
    """At these URLs, for the keys of this ring; it is a part of `side`, as the poller sees it."""

    def __init__(self, urls: list[str], ring: Keyring, poller: SystemPoller, side: object) -> None:
        self.is_sound = True
        """Whether it refuses what it must."""
        self._refused = 0
        self._is_skipping = self._is_behind = False
        self._ring = ring
        self._stamp: object = ()
        self._allowed: dict[str, Allowed] = {}
        self._removed: set[str] = set()
        """Keys whose connections are to be ended."""
        self._own_keys = tuple(each.decode() for each in zmq.curve_keypair())
        self._connections: dict[int, Connection] = {}
        self._left: dict[tuple[bytes, str], Connection] = {}
        """Those that have ended lately, by their routes and keys."""
        self._knocks: list[Knock] = []
        self._unread_max = unread.bytes_max()
        self._complaints: dict[str, float] = {}
        """When each was made last: nobody hides one behind others."""
        self._knock_due = self._knocked_at = self._counted_at = 0.0
        self._server_key, secret = ring.server_keys()
        self._context = sockets.new_context()
        self._zap = sockets.zap_socket(self._context)
        self._socket = sockets.gate_router(self._context, self._server_key, secret)
        self._monitor = sockets.monitor(self._context, self._socket, _NOTED, "inproc://gate")
        self.router = Router(self._socket, [], poller, small=2, source=side)
        self._unbound, self._endpoints = list(urls), list[str]()
        self._poller = poller
        poller.add(int(self._zap.fd), side)
        poller.add(int(self._monitor.fd), side)
        self._look_at_keys()
        self._bind()
        self._prove()

    def take(self) -> Iterator[list[Any]]:
        self._is_behind = True
        for _ in range(MESSAGES_PER_TURN):
            if self._is_skipping and not self._skip():
                break
            if not sockets.has_message(self._socket):
                self._is_behind = False
                return
            route = self._socket.recv(zmq.DONTWAIT)
            head = self._socket.recv(zmq.DONTWAIT, copy=False)
            last, rest = head, list[Any]()
            while last.more and len(rest) < sockets.FRAMES_MAX:
                last = self._socket.recv(zmq.DONTWAIT, copy=False)
                rest.append(last.buffer)
            self._is_skipping = last.more
            key = _text(head, "User-Id")
            if (self._is_skipping and not self._skip()) or len(route) > NAME_BYTES_MAX or route[:1] != b"\0":
                why = "send messages of too many frames" if self._is_skipping else "take names of their own"
                self._cut_off(self._connections.get(int(_text(head, "__fd") or -1)), why)
                continue
            allowed = self._allowed.get(key)
            self._meet(route, key, head, sum(unread.sent_bytes(len(each)) for each in (head.bytes, *rest)))
            if allowed is None or allowed.has_expired:
                self._removed.add(key)
                continue
            yield [bytes([allowed.role]) + route, head.bytes, *rest]
        self.router.look_again()

    def _skip(self) -> bool:
        """Drop what is left of a message, or some of it: there may be millions of frames. Returns whether all of it is gone."""
        for _ in range(FRAMES_PER_TURN):
            self._is_skipping = self._socket.recv(zmq.DONTWAIT, copy=False).more
            if not self._is_skipping:
                return True
        return False

    def admit(self) -> None:
        """Answer the handshakes that have come so far, and note who came and went."""
        for _ in range(HANDSHAKES_PER_TURN):
            if not sockets.has_message(self._zap):
                break
            self._answer(self._zap.recv_multipart(zmq.DONTWAIT))
        else:
            self.router.look_again()
        for _ in range(EVENTS_PER_TURN):
            if not sockets.has_message(self._monitor):
                break
            self._note(parse_monitor_message(self._monitor.recv_multipart(zmq.DONTWAIT)))
        else:
            self.router.look_again()
        if self._knocks and all(each.outcome() is not None for each in self._knocks):
            self._judge()

    def check(self, now: float) -> list[bytes]:
        """Look whether keys have changed. Returns the routes of the clients whose keys were removed, or have expired."""
        self.admit()
        self._look_at_keys()
        self._allow([each for each in self._allowed.values() if not each.has_expired])
        self._bind()
        ended = self._end() if self._removed else []
        if unread.resident_bytes() > self._unread_max or now >= self._counted_at + KNOCK_SECONDS:
            self._counted_at = now
            self._relieve(now)
        if (route := self.router.most_unsent()) is not None:
            self._cut_off(
                next((each for each in self._connections.values() if each.route == route), None), "do not take answers"
            )
        self._left = {of: left for of, left in self._left.items() if left.since > now - LEFT_SECONDS}
        if not self._knocks and now >= self._knock_due and self._endpoints and self._poller.is_entered:
            self._knock(now)
        elif self._knocks and now >= self._knocked_at + KNOCK_SECONDS_MAX:
            self._judge()
        return ended

    def close(self) -> None:
        for each in self._knocks:
            each.close()
        self._socket.disable_monitor()
        self._monitor.close(0)
        self.router.close()
        self._zap.close(0)
        self._context.term()

    def _look_at_keys(self) -> None:
        """Have what is allowed be what the ring says, if that has changed."""
        stamp = self._ring.stamp()
        if stamp != self._stamp:
            try:
                self._allow(self._ring.allowed())
                self._stamp, self._knock_due = stamp, 0.0
            except Error as error:
                self._complain("the keys that may come in stay as they were: %s", error)

    def _allow(self, keys: list[Allowed]) -> None:
        before, self._allowed = self._allowed, {each.key: each for each in keys if not each.has_expired}
        stay = {key for key, each in self._allowed.items() if each.role == before.get(key, each).role}
        self._removed |= before.keys() - stay

    def _answer(self, frames: list[bytes]) -> None:
        """Answer one question. Source: rfc.zeromq.org/spec/27."""
        route, _empty, version, number, _domain, address, _identity, mechanism, *credentials = [
            *frames,
            *[b""] * (9 - len(frames)),
        ]
        key = z85(credentials[0]).decode() if mechanism == b"CURVE" and len(credentials[0]) == 32 else ""
        status, user = b"400", b""
        self._look_at_keys()  # it may be new, or have been removed just now
        if key == self._own_keys[0] or (key in self._allowed and not self._allowed[key].has_expired):
            is_full = key != self._own_keys[0] and self._is_full()
            status, user = (b"300", b"") if is_full else (b"200", key.encode())
        elif not (self._knocks and self._knocks[0].key == key):
            self._refused += 1
            self._complain("a key that is not allowed was refused, from %s", address.decode("ascii", "replace"))
        self._zap.send_multipart([route, b"", version, number, status, b"", user, b""], zmq.DONTWAIT)

    def _is_full(self) -> bool:
        """Whether so many have come in, or so much of those who have gone may still be unread. Those who still shake hands, or
        never do, are not counted.
        """
        if self._is_behind and unread.resident_bytes() > self._unread_max:
            return True
        if len(self._connections) <= CONNECTIONS_MAX:
            return False
        old = time.monotonic() - sockets.HANDSHAKE_MILLISECONDS / 1000
        return sum(bool(each.key) or each.since < old for each in self._connections.values()) > CONNECTIONS_MAX

    def _note(self, event: Any) -> None:
        descriptor = event["value"]
        if event["event"] == zmq.EVENT_ACCEPTED:
            self._gone(descriptor)
            self._connections[descriptor] = connection = Connection(descriptor, peer=_peer(descriptor), since=time.monotonic())
            if not self._poller.is_entered:  # descriptors are short: who is here stays, and nobody comes
                _shut_down(connection)
        elif event["event"] == zmq.EVENT_DISCONNECTED:
            self._gone(descriptor)
        elif event["event"] & _REFUSED:
            self._refused += 1
            self._complain("a handshake was refused: without a key, with another server's, or by another program")

    def _relieve(self, now: float) -> None:
        """Cut off those of whom most is unread, while all that is unread is too much."""
        sizes = {descriptor: each.unread(now) for descriptor, each in self._connections.items()}
        total = sum(sizes.values())
        for descriptor in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= self._unread_max:
                break
            total -= sizes[descriptor]
            self._cut_off(self._connections[descriptor], "send more than is read")
        if unread.resident_bytes() > self._unread_max:
            for each in self._connections.values():
                if each.forgiven > FORGIVEN_MAX:
                    self._cut_off(each, "say much, and nothing whole")

    def _cut_off(self, connection: Connection | None, why: str) -> None:
        if connection is not None:
            _shut_down(connection)
            name = self._allowed[connection.key].name if connection.key in self._allowed else "not known yet"
            self._complain("clients %s: one was cut off, whose key is %s", why, name)

    def _meet(self, route: bytes, key: str, head: Any, sent: int) -> None:
        """Know which connection this client has."""
        descriptor = _text(head, "__fd")
        found = self._connections.get(int(descriptor)) if descriptor.isdigit() else None
        if found is None:  # it has ended, and this is what it had said
            self._left[route, key] = Connection(-1, route, key, since=time.monotonic())
            return
        found.taken, found.forgiven = found.taken + sent, 0
        if found.route != route:
            if found.key:  # its descriptor had been another one's, of which something was still to be read
                self._left[found.route, found.key] = Connection(-1, found.route, found.key, since=time.monotonic())
            found.route, found.key = route, key

    def _gone(self, descriptor: int) -> None:
        """This connection has ended. What it asked for may wait for a worker still."""
        gone = self._connections.pop(descriptor, None)
        if gone is not None and gone.key:
            gone.since = time.monotonic()
            self._left[gone.route, gone.key] = gone

    def _end(self) -> list[bytes]:
        removed, self._removed = self._removed, set()
        for each in self._connections.values():
            if not each.key or each.key in removed:
                _shut_down(each)
        known = [*self._connections.values(), *self._left.values()]
        return [each.route for each in known if each.key in removed]

    def _complain(self, what: str, *of: object) -> None:
        now = time.monotonic()
        if now >= self._complaints.get(what, -COMPLAINT_SECONDS) + COMPLAINT_SECONDS:
            self._complaints[what] = now
            log.warning(f"{what} (%d refused so far)", *of, self._refused)

    def _bind(self) -> None:
        """Listen where it does not yet: an address may go, and come again."""
        for url in list(self._unbound):
            self._socket.ipv6 = sockets.is_literal_6(url)
            try:
                listen(self._socket, url)
            except Error as error:
                self._complain("%s", error)
                continue
            self._unbound.remove(url)
            self._endpoints.append(self._socket.last_endpoint.decode())

    def _knock(self, now: float) -> None:
        url = _ANYWHERE.sub(lambda any_: "//[::1]" if any_[1] == "[::]" else "//127.0.0.1", self._endpoints[-1])
        stranger = tuple(each.decode() for each in zmq.curve_keypair())
        self._knocked_at, self._knock_due = now, now + KNOCK_SECONDS
        try:
            for keys in (stranger, self._own_keys):
                self._knocks.append(Knock(self._context, url, self._server_key, *keys))
        except zmq.ZMQError as error:  # there are no descriptors for its sockets
            self._complain("the gate cannot knock at itself: %s", error)

    def _judge(self) -> None:
        """A stranger must have been refused, and the gate's own key have come in."""
        outcomes = [each.outcome() for each in self._knocks]
        for each in self._knocks:
            each.close()
        self._knocks = []
        if outcomes[0]:
            self.is_sound = False
            log.error("the gate at %s lets in who has no key: the broker ends", self._endpoints[-1])
        elif outcomes != [False, True]:
            self._knock_due = 0.0
            self._complain("the gate at %s could not be tried: it is tried again", self._endpoints[-1])

    def _prove(self) -> None:
        """Raise AuthError if the gate lets a stranger in."""
        until = time.monotonic() + KNOCK_SECONDS_MAX
        if self._endpoints:
            self._knock(time.monotonic())
        while self._knocks and time.monotonic() < until:
            self._zap.poll(5)
            self.admit()
        if not self.is_sound:
            raise AuthError(f"the gate at {self._endpoints[-1]} lets in who has no key: nothing is served there")


def _text(frame: Any, name: str) -> str:
    """What ZeroMQ says of the connection that a frame came by; empty if it says nothing."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""


def _peer(descriptor: int) -> object:
    try:
        with _borrowed(descriptor) as connection:
            return connection.getpeername()
    except OSError:
        return None


def _shut_down(connection: Connection) -> None:
    """End it, unless its descriptor is another one's by now."""
    if _peer(connection.descriptor) != connection.peer:
        return
    with contextlib.suppress(OSError), _borrowed(connection.descriptor) as borrowed:  # it may have ended
        borrowed.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Generator[socket.socket]:
    """ZeroMQ's own descriptor: there may be none left for another one. Raises OSError if it is no socket any more."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()
