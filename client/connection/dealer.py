"""The transport to the broker: a DEALER, and what ZeroMQ tells of its connection.

ZeroMQ connects again by itself, so this transport never breaks. Without a connection nothing is taken, lest a write that its
caller has given up arrives hours later; and what had been sent on a connection that ended is lost without a word. ZeroMQ's
monitor tells of the next connection: `has_come_back` says then that all that waits at the broker is to be sent again.

Of a connection to another machine it tells more: from what happened last follows the `trouble`, which an error tells in words.
A key that was refused makes ZeroMQ give up: the transport `is_refused` then, for good.
"""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from errno import EMFILE
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from holdall import sockets
from holdall.errors import ConnectionError
from holdall.framing import Received
from holdall.sockets import CONNECT_MILLISECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.connection_file import ConnectionFile
    from holdall.protocol import Buffer

_WAITS, _RCVMORE, _DONTWAIT = 0, int(zmq.RCVMORE), int(zmq.DONTWAIT)
_numbers = itertools.count()
_HANDSHAKES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_ATTEMPTS = zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CLOSED
_EVENTS_ELSEWHERE = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | _HANDSHAKES | _ATTEMPTS
OTHER_KIND_SECONDS = 1.0
"""How long a name is tried as that of an address of IPv4, or 6, before it is tried as that of the other kind."""
_LITERAL = re.compile(r"//(\[|[\d.]+:)")
NO_ANSWER = "nothing answers there: is the machine on, and its network, and is the port open?"
NOBODY_LISTENS = "nobody listens at this port there: is the service running, and this its port?"
UNKNOWN_NAME = "no machine of this name is known"
TOO_MANY = "the service has as many clients as it may: it lets this one in when others have left"
ANOTHER_SERVICE = "who listens there is not the service that this connection file is for"
DEALER_LINGER_MILLISECONDS = 100
"""For last words that want no answer; all else was answered, or given up, when it is closed."""


class Dealer:
    """Connected, or about to be, to the broker where `url` says. A thread that receives waits for `wait_seconds` at most."""

    is_broken = False
    is_refused = False
    trouble = ""
    due = inf

    def __init__(
        self, context: Any, url: Callable[[], str], wait_seconds: float = 0.0, keys: ConnectionFile | None = None
    ) -> None:
        self._url = url
        self._connected_to = url()
        self._dealer: Any = None
        self._monitor: Any = None
        self._connections = 0
        self._has_refused = False
        self._tried_at = 0.0
        self._failed = False
        self._other_kind_at = monotonic() + OTHER_KIND_SECONDS
        self._wait_milliseconds = int(wait_seconds * 1000)
        try:
            self._dealer = sockets.client_dealer(context, keys)
            self._dealer.rcvtimeo = self._wait_milliseconds
            address = f"inproc://monitor-{next(_numbers)}"  # by default pyzmq takes a name that may be another dealer's still
            events = zmq.EVENT_HANDSHAKE_SUCCEEDED if keys is None else _EVENTS_ELSEWHERE
            self._monitor = sockets.monitor(context, self._dealer, events, address)
            self._dealer.ipv6 = sockets.is_literal_6(self._connected_to)
            self._receive, self._get = self._dealer.recv, self._dealer.get
            self._dealer.connect(self._connected_to)
        except zmq.ZMQError as error:
            self.close()
            advice = "raise the limit (ulimit -n)" if error.errno == EMFILE else "correct HOLDALL_URL"
            raise ConnectionError(f"cannot connect to {self._connected_to}: {error.strerror}; {advice}") from None
        except BaseException:
            self.close()
            raise

    def send(self, message: list[Buffer]) -> bool:
        try:
            sockets.send(self._dealer, message)
        except zmq.ZMQError:  # there is no connection, its queue is full, or it was closed meanwhile
            self._has_refused = True
            return False
        except BaseException:  # Ctrl-C, perhaps between two frames: with a frame too many it is no request
            if len(message) > 1:
                with suppress(zmq.ZMQError):
                    sockets.send(self._dealer, [b"", b""])
            raise
        return True

    def receive(self, *, wait: bool) -> list[Received]:
        """What comes next, or is there; nothing, when there is a connection again for what was refused."""
        if wait and self._has_refused:
            self._wait_for_either()
            wait = False
        try:
            head = self._receive(_WAITS if wait else _DONTWAIT)
            if not self._get(_RCVMORE):
                return [Received(head)]
            received = [Received(head, self._receive(_DONTWAIT, copy=False).buffer)]
        except zmq.ZMQError:  # nothing came, or it was closed meanwhile
            return []
        except BaseException:
            self._skip_rest()
            raise
        self._skip_rest()
        return received

    def has_come_back(self) -> bool:
        before = self._connections
        with suppress(zmq.ZMQError):  # it was closed meanwhile
            wants_other = self._failed and monotonic() > self._other_kind_at and not _LITERAL.search(self._connected_to)
            if self._connected_to != self._url() or wants_other:
                self._connect_anew(otherwise=wants_other)
            while sockets.has_message(self._monitor):
                told = parse_monitor_message(sockets.receive(self._monitor, 2))
                self._note(told["event"], told["value"])
        if self._connections == before:
            return False
        is_wanted, self._has_refused = before > 0 or self._has_refused, False
        return is_wanted

    def _note(self, event: int, value: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._connections += 1
            self.trouble = ""
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.is_refused = value != 300  # then it is full
            self.trouble = TOO_MANY
        elif event & _HANDSHAKES:
            has_waited = monotonic() - self._tried_at > CONNECT_MILLISECONDS / 2000
            self.trouble = NO_ANSWER if has_waited else ANOTHER_SERVICE
        elif event == zmq.EVENT_CONNECT_DELAYED:
            self._tried_at = monotonic()
            self.trouble = self.trouble or NO_ANSWER
        elif event == zmq.EVENT_CLOSED:
            has_waited = monotonic() - self._tried_at > CONNECT_MILLISECONDS / 2000
            self.trouble = NO_ANSWER if has_waited else NOBODY_LISTENS
            self._failed = True
        elif event == zmq.EVENT_CONNECT_RETRIED:  # if no attempt was made, the name led nowhere
            self.trouble = self.trouble or UNKNOWN_NAME
            self._failed = True

    def _connect_anew(self, *, otherwise: bool) -> None:
        """The service was found elsewhere; or its name is to be looked up as that of an address of the other kind, 6 or 4."""
        self._dealer.disconnect(self._connected_to)
        self._dealer.ipv6 = sockets.is_literal_6(self._url()) or (otherwise and not self._dealer.ipv6)
        self._failed, self._other_kind_at = False, monotonic() + OTHER_KIND_SECONDS
        self._connected_to = self._url()
        self._dealer.connect(self._connected_to)

    def fileno(self) -> int:
        return int(self._dealer.fd)

    def monitor_fileno(self) -> int:
        return int(self._monitor.fd)

    @property
    def is_closed(self) -> bool:
        return self._dealer is None or bool(self._dealer.closed)

    def close(self) -> None:
        if self._dealer is not None and not self._dealer.closed:
            self._dealer.disable_monitor()  # or else ZeroMQ's thread may wait for ever to tell a monitor that is closed
        for socket, linger in (self._monitor, 0), (self._dealer, DEALER_LINGER_MILLISECONDS):
            if socket is not None:
                socket.close(linger)

    def _wait_for_either(self) -> None:
        """Until a message comes, or a connection, or it is time to look for something else."""
        poller = zmq.Poller()
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        poller.poll(self._wait_milliseconds)

    def _skip_rest(self) -> None:
        """Leave nothing of this message to be taken for the next one."""
        with suppress(zmq.ZMQError):
            while self._get(_RCVMORE):
                self._receive(_DONTWAIT, copy=False)
