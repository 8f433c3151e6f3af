"""The transport to a server or a cluster: messages of a session in, replies out; the nodes do what a broker and its workers do.

1. A request whose node cannot be asked is not kept: `has_come_back` says when it can, and the session sends again what is
   pending, with the same numbers. What is lost with a connection goes the same way, and what a caller has given up never.
2. Answers come in the order of the commands, for each node. An exception in the middle of that (Ctrl-C) may leave the order in
   doubt: the mark `_is_torn` stays, and before anything else is done all connections are closed.
3. A request that is still on its way to a node that answers is not sent there twice.
"""

from __future__ import annotations

import time
from functools import partial
from random import uniform
from typing import TYPE_CHECKING, Any

import hiredis

from holdall import protocol
from holdall.bodies import decode
from holdall.errors import ConnectionError, ProtocolError
from holdall.framing import Received
from holdall.protocol import Buffer, Reply
from holdall.spin import AnswerSpin

from .command import Command, ignored
from .node import Node, State
from .nodes import Nodes
from .verdict import Kind, Verdict, address_of, verdict

if TYPE_CHECKING:
    from .target import Target
    from .translate import Translator

AGAIN_SECONDS = 0.02
"""After so long what was refused for a moment is sent again."""
REFUSAL_SECONDS = 1.0
"""Who is not let in is tried again after so long."""
REDIRECTIONS_MAX = 20
"""Times that one command is sent on; then it is sent again by the session, when its time has come."""
WAIT_MILLISECONDS = 1_000
_BATCH = bytes([protocol.BATCH])
monotonic = time.monotonic


class RedisTransport:
    """For one driver. A thread that receives waits for `wait_seconds` at most."""

    is_broken = False
    is_refused = False

    def __init__(self, target: Target, translator: Translator, tls: Any, wait_seconds: float) -> None:
        self.is_closed = True  # until all is there
        self._target = target
        self._translator = translator
        self._wait = target.options.wait
        self._wait_seconds = wait_seconds
        self._nodes = Nodes(target, tls, wait_seconds)
        self._flying: dict[int, tuple[Node | None, Command]] = {}
        """Requests that a node has, or that are to be sent to one in a moment, by their numbers."""
        self._again: list[tuple[float, Command]] = []
        self._answered: list[Received] = []
        self._unflushed: dict[Node, list[Command]] = {}
        """Nodes to which something is to be sent, each with the writes that replicas are to have."""
        self._spin = AnswerSpin()
        self._is_torn = False
        self._refusal = ""
        """Why nothing is let in, until then."""
        self._refused_until = 0.0
        self.is_closed = False

    # What a driver calls

    @property
    def trouble(self) -> str:
        return self._nodes.trouble

    def send(self, message: list[Buffer]) -> bool:
        self._begin()
        head = bytes(message[0])
        if head[1:2] == _BATCH:
            request = protocol.parse_request(head, message[1] if len(message) > 1 else None)
            for each in decode(list[bytes], request.value):
                self._take(each, None)
        else:
            self._take(head, message[1] if len(message) > 1 else None)
        self._flush()
        self._is_torn = False
        return True

    def receive(self, *, wait: bool) -> list[Received]:
        self._begin()
        if not self._answered:
            nodes = self._nodes
            owing = nodes.owing() if wait and not self._again and not nodes.has_come_back else None
            if owing is not None:  # most calls: one look at one connection, and no poll
                for raw in self._spin.wait(owing.look, owing.receive):
                    self._answer(owing, raw)
                nodes.see(owing)
            else:
                seconds = max(0.0, min(self._wait_seconds, self.due - monotonic())) if wait else 0.0
                for node, raw in nodes.answers(seconds):
                    self._answer(node, raw)
            self._see_to_it()
        answered, self._answered = self._answered, []
        self._is_torn = False
        return answered

    def has_come_back(self) -> bool:
        self._begin()
        self._see_to_it()
        come, self._nodes.has_come_back = self._nodes.has_come_back, False
        self._nodes.has_missed = self._nodes.has_missed and not come
        self._is_torn = False
        return come

    @property
    def due(self) -> float:
        if self._answered or self._nodes.has_come_back:
            return 0.0
        return min((at for at, _command in self._again), default=self._nodes.due)

    def fileno(self) -> int:
        return self._nodes.fileno()

    def monitor_fileno(self) -> None:
        return None

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._nodes.close()

    __del__ = close  # of a driver that an interrupt has lost

    def leave(self) -> None:
        """In a forked child: nothing of this is used any more, and nothing is said."""
        self._nodes.leave()

    # Requests

    def _begin(self) -> None:
        if not (self._is_torn or self.is_closed or self._refusal):
            self._is_torn = True
            return
        if self.is_closed:
            raise ConnectionError(f"this client of {self._target.shown} is closed: make another one")
        if self._is_torn or (self._refusal and monotonic() >= self._refused_until):
            for kept in (self._flying, self._again, self._answered, self._unflushed):
                kept.clear()
            self._refusal = ""
            self._nodes.drop()
        self._is_torn = True

    def _take(self, head: bytes, payload: Buffer | None) -> None:
        request = protocol.parse_request(head, payload)
        if self._refusal:
            self._tell(self._denied(request.sequence))
            return
        if request.sequence in self._flying:
            return
        try:
            found = self._translator.command(request)
        except ProtocolError as error:
            found = Reply(protocol.MALFORMED, request.sequence, 0, str(error).encode())
        if isinstance(found, Reply):
            self._tell(found)
        else:
            self._route(found)

    def _route(self, command: Command, node: Node | None = None) -> None:
        """Have the node send it that has its slot. If none can be asked, it is forgotten: see 1."""
        node = node or self._nodes.of(command.slot)
        if node is None or node.state is not State.READY:
            self._nodes.has_missed = True
            self._flying.pop(command.sequence, None)
            return
        covered = self._unflushed.setdefault(node, [])
        if command.sequence >= 0:
            self._flying[command.sequence] = (node, command)
            if command.writes and self._wait:
                covered.append(command)
                command.covered_by = self
        node.send(command)

    def _tell(self, reply: Reply) -> None:
        self._answered.append(Received(b"", reply=reply))

    def _denied(self, sequence: int) -> Reply:
        return Reply(protocol.DENIED, sequence, 0, self._refusal.encode())

    def _flush(self) -> None:
        while self._unflushed:
            node, covered = self._unflushed.popitem()
            if covered and node.state is State.READY:
                words = [b"WAIT", str(self._wait).encode(), str(WAIT_MILLISECONDS).encode()]
                wait = Command(-1, words, ignored)
                wait.answer = partial(self._waited, wait, covered)
                for each in covered:
                    each.covered_by = wait
                node.send(wait)
            node.flush()
            if node.state is State.CLOSED:
                self._nodes.see(node)

    def _waited(self, wait: Command, covered: list[Command], raw: Any) -> tuple[None, list[Command]]:
        """So many replicas have what came before. Too few: it counts as not answered, and is sent again."""
        for command in covered:
            if command.covered_by is wait:  # else it was refused, and has gone elsewhere
                self._flying.pop(command.sequence, None)
                if raw >= self._wait and command.reply is not None:
                    self._tell(command.reply)
        self._nodes.trouble = "" if raw >= self._wait else f"only {raw} of the {self._wait} replicas wanted have it"
        return None, []

    def _see_to_it(self) -> None:
        """What is due, and what has become of connections."""
        now, nodes = monotonic(), self._nodes
        if now < nodes.ticks_at and not (self._again or nodes.lost or nodes.has_come_back or self._unflushed):
            return
        if self._again:
            due = [command for at, command in self._again if at <= now]
            self._again = [(at, command) for at, command in self._again if at > now]
            for command in due:
                if command.sequence < 0 or command.sequence in self._flying:
                    self._route(command)
        if now >= self._nodes.ticks_at:
            self._nodes.tick(now)
        while self._nodes.lost:
            lost = self._nodes.lost.pop()
            self._unflushed.pop(lost, None)
            self._flying = {number: flying for number, flying in self._flying.items() if flying[0] is not lost}
        if self._unflushed:
            self._flush()

    # Answers

    def _answer(self, node: Node, raw: Any) -> None:
        if not node.sent:
            node.close("it answers what was not asked")
            return
        command = node.sent.popleft()
        if isinstance(raw, hiredis.ReplyError):
            self._refused(node, command, str(raw))
            return
        if command.sequence < 0 and node.state is State.GREETING:
            node.state = State.GREETING if node.sent else State.READY
            return
        try:
            reply, more = command.answer(raw)
        except (ValueError, TypeError, IndexError, ProtocolError) as error:
            text = f"what is stored there is not ours: {error!r}"
            reply, more = Reply(protocol.STORAGE, command.sequence, 0, text.encode()), []
        for each in more:
            self._route(each)
        if isinstance(reply, Command):
            self._route(reply)
        elif reply is not None and command.covered_by is not None:
            command.reply = reply
        elif reply is not None:
            self._flying.pop(command.sequence, None)
            self._nodes.trouble = ""
            self._tell(reply)

    def _refused(self, node: Node, command: Command, error: str) -> None:
        found = verdict(error)
        if found.kind is Kind.FULL:
            node.sent.appendleft(command)
            node.close(error)
            return
        asks_nodes = command.answer == self._nodes.learned
        if node.state is State.GREETING or found.kind is Kind.SHUT or (asks_nodes and found.status == protocol.DENIED):
            self._refuse(f"{self._target.shown} does not let this client in: {found.text or error}")
            return
        if asks_nodes:
            self._nodes.refused(node, error)
            return
        if command.words[0] == b"WAIT":
            command.answer(0)
            self._nodes.trouble = found.text or error
            return
        if command.covered_by is not None:  # the WAIT behind it covers it no more
            command.covered_by, command.reply = None, None
        command.asks = False
        command.redirected += 1
        if command.redirected > REDIRECTIONS_MAX:
            self._flying.pop(command.sequence, None)
        elif found.kind is Kind.EVAL and command.source:
            command.words = [b"EVAL", command.source, *command.words[2:]]
            self._route(command, node)
        elif found.kind in (Kind.MOVED, Kind.ASK):
            self._redirected(node, command, found)
        elif found.kind is Kind.FINAL:
            self._flying.pop(command.sequence, None)
            if command.sequence >= 0:
                self._tell(Reply(found.status, command.sequence, 0, found.text.encode()))
        else:
            self._again.append((monotonic() + AGAIN_SECONDS * uniform(0.75, 1.25), command))
            self._flying[command.sequence] = (None, command)
            self._nodes.trouble = error
            if found.kind is Kind.ELSEWHERE:
                self._nodes.ask(but=node)

    def _refuse(self, why: str) -> None:
        """Tell all who wait, and all who come within a second."""
        self._refusal, self._refused_until = why, monotonic() + REFUSAL_SECONDS
        for sequence in list(self._flying):
            self._tell(self._denied(sequence))
        self._flying.clear()
        self._nodes.has_come_back = True  # what waits for a node is asked again, and told

    def _redirected(self, node: Node, command: Command, found: Verdict) -> None:
        try:
            address = address_of(found.where, node.address[0])
        except ValueError:
            self._flying.pop(command.sequence, None)
            return
        if found.kind is Kind.MOVED:
            self._nodes.topology.moved(found.slot, address)
            self._nodes.ask()
        command.asks = found.kind is Kind.ASK
        self._route(command, self._nodes.at(address))
