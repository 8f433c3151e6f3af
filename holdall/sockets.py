"""How a ZeroMQ socket is made, bounded, written to and read: all sockets of broker, workers and clients come from here.

    client of this machine  DEALER ──▶ ROUTER  front   the broker
    client elsewhere        DEALER ──▶ ROUTER  gate
    worker                  DEALER ──▶ ROUTER  back

Rules, one for each way in which a ZeroMQ socket surprises:
1. ZeroMQ bounds messages, not bytes. A small frame has at most PAYLOAD_INLINE_BYTES_MAX bytes, so a queue of small messages is
   bounded in bytes too; what is larger is counted by `holdall.process.unsent`.
2. A peer that is stopped, or whose cable is cut, shows by nothing but heartbeats. A client asks for them, and tells the broker
   how long to wait for the next question. No other socket asks: ZeroMQ aborts the process (`Assertion failed: !_io_error`) when
   it is about to ask a peer that went while it had stopped reading from it, so a socket that asks must never stop reading.
3. A ZAP domain keeps out a peer that speaks ZMTP/1.0, which has no handshake.
4. A Unix socket lets in processes of this user alone. A port is open to everybody: its socket speaks CurveZMQ, in a context in
   which the gate answers who may come in (ZAP); were there no answer, nobody might.
5. Nothing waits for room: `send` gives up at once.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import zmq

from holdall.protocol import FRAME_BYTES_MAX, PAYLOAD_INLINE_BYTES_MAX

if TYPE_CHECKING:
    from holdall.connection_file import ConnectionFile
    from holdall.protocol import Buffer

SOCKETS_MAX = 50_000
"""Of one context. ZeroMQ's own limit, 1,023, would be reached by a program of some hundred threads."""
HEARTBEAT_MILLISECONDS = 1_500
SILENCE_MILLISECONDS = 4_000
"""How often a client asks for a sign of life, and how long the sign may take; then the connection counts as broken."""
ABSENCE_MILLISECONDS = 10_000
"""A broker that hears no more questions of a client for so long ends the connection."""
HANDSHAKE_MILLISECONDS = 3_000
"""A peer that has not shaken hands by then is cut off."""
RECONNECT_MILLISECONDS = (20, 500)
"""How soon a DEALER connects again: at first, and at most; doubled each time."""
CONNECT_MILLISECONDS = 2_000
"""How long a connection to another machine may take to be made; then the next attempt begins."""
PORT_BACKLOG = 4_096
"""Of those who come to a port in one moment: whom the system has no room for comes again a second later."""
ZAP_DOMAIN = b"holdall"
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
"""Where ZeroMQ asks who may come in. Source: rfc.zeromq.org/spec/27."""
QUEUED_BYTES_MAX = 64 * 1024 * 1024
"""Of small messages that wait for one client to take them."""
QUEUED_MAX = QUEUED_BYTES_MAX // PAYLOAD_INLINE_BYTES_MAX
"""Messages that wait in one direction of one connection of a client."""
GATE_QUEUED_MAX = QUEUED_MAX // 4
"""The same of a client elsewhere: a key holder may have many connections."""
UNREAD_MAX = 64
"""Messages of one client that the broker's socket reads ahead: a client that floods is read no faster than its turn comes."""
BACK_QUEUED_MAX = 4 * QUEUED_MAX
"""Messages that wait between broker and worker: those of all clients."""
FRAMES_MAX = 8
"""Frames kept of one message. No message of ours has more than four; what a stranger sends beyond is read and dropped."""
COPIED_BYTES_MAX = 64 * 1024
"""Up to here a copy is cheaper than the object that keeps the memory until it is sent."""

_EVENTS, _POLLIN, _RCVMORE, _DONTWAIT = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.RCVMORE), int(zmq.DONTWAIT)
_DONTWAIT_SNDMORE = int(zmq.DONTWAIT | zmq.SNDMORE)


def new_context() -> Any:
    """A context, for the sockets of one process."""
    context: Any = zmq.Context()
    context.max_sockets = SOCKETS_MAX
    return context


def front_router(context: Any) -> Any:
    """The broker's socket for clients, to be bound."""
    return _router(context, QUEUED_MAX, UNREAD_MAX)


def gate_router(context: Any, public: str, secret: str) -> Any:
    """The broker's socket for clients elsewhere, to be bound: it has this key, and asks for theirs."""
    router = _router(context, GATE_QUEUED_MAX, UNREAD_MAX)
    router.curve_server = True
    router.curve_publickey, router.curve_secretkey = public.encode(), secret.encode()
    router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    router.backlog = PORT_BACKLOG
    return router


def zap_socket(context: Any) -> Any:
    """Where the gate is asked who may come in, and answers. It is made before the sockets that ask."""
    answering: Any = context.socket(zmq.ROUTER)
    answering.linger = 0
    answering.bind(ZAP_ENDPOINT)
    return answering


def back_router(context: Any) -> Any:
    """The broker's socket for workers, to be bound."""
    return _router(context, BACK_QUEUED_MAX, BACK_QUEUED_MAX)


def client_dealer(context: Any, keys: ConnectionFile | None = None) -> Any:
    """A client's socket for the front, or with `keys` for the gate. It reads all that comes, answers to what it asked;
    unconnected it takes no message.
    """
    dealer = _dealer(context, QUEUED_MAX, unread_max=0)
    dealer.immediate = True
    dealer.heartbeat_ivl, dealer.heartbeat_timeout = HEARTBEAT_MILLISECONDS, SILENCE_MILLISECONDS
    dealer.heartbeat_ttl = ABSENCE_MILLISECONDS
    if keys is not None:
        dealer.curve_serverkey = keys.server_key.encode()
        dealer.curve_publickey, dealer.curve_secretkey = keys.public_key.encode(), keys.secret_key.encode()
        dealer.connect_timeout = CONNECT_MILLISECONDS
    if not isinstance(getattr(threading, "_start_new_thread", len), type(len)):
        dealer.copy_threshold = FRAME_BYTES_MAX  # pyzmq's thread, which frees what was not copied, would hold up a hub for ever
    return dealer


def worker_dealer(context: Any) -> Any:
    """A worker's socket, to be connected to the back."""
    return _dealer(context, BACK_QUEUED_MAX, BACK_QUEUED_MAX)


def is_literal_6(url: str) -> bool:
    """Whether this URL has an address of IPv6. A name is looked up as one of IPv4 unless a socket's `ipv6` says otherwise."""
    return "[" in url


def monitor(context: Any, socket: Any, events: int, address: str) -> Any:
    """Where it is told what happens to this socket. Without a bound: ZeroMQ's one thread would wait for who does not listen."""
    telling: Any = context.socket(zmq.PAIR)
    telling.rcvhwm = telling.linger = 0
    socket.monitor(address, events)
    telling.connect(address)
    return telling


def has_message(socket: Any) -> bool:
    return bool(socket.get(_EVENTS) & _POLLIN)


def receive(socket: Any, small: int) -> list[Any]:
    """The frames of the message that waits, the first `small` as bytes, the others as memoryviews, which are no copies."""
    frames: list[Any] = [socket.recv(_DONTWAIT)]
    while socket.get(_RCVMORE):
        if len(frames) < small:
            frames.append(socket.recv(_DONTWAIT))
        elif len(frames) < FRAMES_MAX:
            frames.append(socket.recv(_DONTWAIT, copy=False).buffer)
        else:
            socket.recv(_DONTWAIT, copy=False)
    return frames


def send(socket: Any, frames: list[Buffer]) -> None:
    """Send a message without waiting. Raises zmq.ZMQError: Again if there is no room, EHOSTUNREACH if there is no such peer."""
    _send_first(socket, frames)
    last = frames[-1]
    socket.send(last, _DONTWAIT, copy=len(last) <= COPIED_BYTES_MAX)


def send_tracked(socket: Any, frames: list[Buffer]) -> Any:
    """The same for a message whose last frame is large. Returns what has `done` once that has left this process."""
    _send_first(socket, frames)
    return socket.send(frames[-1], _DONTWAIT, copy=False, track=True)


def _send_first(socket: Any, frames: list[Buffer]) -> None:
    for frame in frames[:-1]:
        socket.send(frame, _DONTWAIT_SNDMORE, copy=len(frame) <= COPIED_BYTES_MAX)


def _router(context: Any, unsent_max: int, unread_max: int) -> Any:
    router = _socket(context, zmq.ROUTER, unsent_max, unread_max)
    router.router_mandatory = True  # a message to a peer that is gone is an error, not silence
    router.ipc_filter_uid = os.getuid()
    return router


def _dealer(context: Any, unsent_max: int, unread_max: int) -> Any:
    dealer = _socket(context, zmq.DEALER, unsent_max, unread_max)
    dealer.reconnect_ivl, dealer.reconnect_ivl_max = RECONNECT_MILLISECONDS
    return dealer


def _socket(context: Any, kind: int, unsent_max: int, unread_max: int) -> Any:
    socket: Any = context.socket(kind)
    socket.maxmsgsize = FRAME_BYTES_MAX
    socket.sndhwm, socket.rcvhwm = unsent_max, unread_max
    socket.handshake_ivl = HANDSHAKE_MILLISECONDS
    socket.zap_domain = ZAP_DOMAIN
    socket.linger = socket.sndtimeo = 0
    return socket
