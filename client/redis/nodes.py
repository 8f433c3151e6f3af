"""All connections of one transport, and which of them to use: opened when they are needed, again when they have ended.

Which nodes there are is asked when nothing is known, when a node that is needed cannot be reached, or owes an answer for long,
and when one says that it is no longer responsible.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any
from warnings import warn

from .command import Command
from .keyspace import CLUSTER_SLOTS
from .node import READY_SECONDS, Node, State
from .topology import Topology

if TYPE_CHECKING:
    from .target import Target

SILENCE_SECONDS = (0.5, 5.0)
"""A node that owes an answer for so long: which nodes there are is asked of another one; the connection is given up."""
RECONNECT_SECONDS = 0.1
"""How soon a connection is made again, and it is asked again which nodes there are."""
TICK_SECONDS = 0.02
"""How often it is looked whether anything is due."""
monotonic = time.monotonic


class Nodes:
    """Of the server or cluster at this target, for a caller that waits for `wait_seconds` at most, or not at all."""

    def __init__(self, target: Target, tls: Any, wait_seconds: float) -> None:
        self.has_come_back = False
        """Whether what was missed, or lost with a connection, is to be sent again now."""
        self.has_missed = False
        """Whether something was, which no node could be asked: until it is, it is tried again and again."""
        self.trouble = ""
        self.lost: list[Node] = []
        """Connections that have ended since this was looked at last."""
        self.topology = Topology(target.seeds)
        self._shown = target.shown
        self._selector: Any = selectors.DefaultSelector()
        self._open = partial(Node, target, tls, self._selector, wait_seconds)
        self._at: dict[tuple[str, int], Node] = {}
        self.ticks_at = self._asks_at = self._tries_at = 0.0
        self._asking: Node | None = None

    def of(self, slot: int) -> Node | None:
        """The node that has this slot, if it can be asked."""
        address = self.topology.of(slot)
        if address is not None:
            node = self.at(address)
            if node.state is State.READY:
                return node
        self.has_missed = True
        return None

    def at(self, address: tuple[str, int]) -> Node:
        """The connection to this address, ready or not."""
        node = self._at.get(address)
        if node is None or (node.state is State.CLOSED and monotonic() >= node.began_at + RECONNECT_SECONDS):
            node = self._at[address] = self._open(address)
            node.go_on()
            self.see(node)
        return node

    def owing(self) -> Node | None:
        """The node that owes an answer, if it is one alone, nothing else is to be done, and a thread may wait for it."""
        found: Node | None = None
        for node in self._at.values():
            if node.sent or node.state is not State.READY:
                if found is not None or not node.can_wait:
                    return None
                found = node
        return None if self.has_missed else found

    def answers(self, seconds: float) -> Iterator[tuple[Node, Any]]:
        """What nodes have answered, or do within so long."""
        for key, _events in self._selector.select(seconds):
            node = key.data
            if node.state in (State.CONNECTING, State.SHAKING_HANDS):
                node.go_on()
            if node.state in (State.GREETING, State.READY):
                for raw in node.receive(wait=False):
                    yield node, raw
                node.flush()
            self.see(node)

    def see(self, node: Node) -> None:
        """Look what has become of this node."""
        if node.state is node.seen:
            return
        node.seen = node.state
        if node.state is State.READY:
            self.has_come_back = True
            if not self.topology.is_known:
                self.ask(of=node)
        elif node.state is State.CLOSED:
            if node.trouble:
                self.trouble = f"{node.address[0]}:{node.address[1]}: {node.trouble}"
            if self._asking is node:
                self._asking = None
            self.has_missed = self.has_missed or bool(node.sent)
            self.lost.append(node)

    def tick(self, now: float) -> None:
        """What is due; to be called from `ticks_at` on."""
        self.ticks_at = now + TICK_SECONDS
        for node in list(self._at.values()):
            owes = now - node.heard_at if node.sent else 0.0
            if node.state is State.RESOLVING:
                node.go_on()
            if node.state not in (State.READY, State.CLOSED) and now > node.began_at + READY_SECONDS:
                node.close("nothing answers there")
            elif node.state is State.READY and owes > SILENCE_SECONDS[1]:
                node.close("it does not answer")
            elif node.state is State.READY and owes > SILENCE_SECONDS[0]:
                self.ask(but=node)
            self.see(node)
        if (self.has_missed or not self.topology.is_known) and now >= self._tries_at:
            self._tries_at = now + RECONNECT_SECONDS
            self.has_come_back = self.has_come_back or self.has_missed
            self.ask()

    @property
    def due(self) -> float:
        if any(each.state is State.RESOLVING for each in self._at.values()):
            return self.ticks_at
        return max(self._tries_at, self.ticks_at) if self.has_missed else inf

    # Which nodes there are

    def ask(self, *, of: Node | None = None, but: Node | None = None) -> None:
        """Ask a node which nodes there are, unless one is being asked, or was just now."""
        now = monotonic()
        if (self._asking is not None and now < self._asks_at + SILENCE_SECONDS[0]) or (now < self._asks_at and of is None):
            return
        self._asks_at = now + RECONNECT_SECONDS
        others = [each for each in self._at.values() if each.state is State.READY and each is not (but or self._asking)]
        node = of or min(others, key=lambda each: len(each.sent), default=None) or self.at(self.topology.next_seed())
        if node.state is not State.READY:
            self.has_missed = True
            return
        self._asking = node
        node.send(Command(-1, [b"CLUSTER", b"SLOTS"], self.learned))
        if not self.topology.is_known:
            node.send(Command(-1, [b"INFO", b"memory"], self._memory_told))
        node.flush()

    def learned(self, raw: Any) -> tuple[None, list[Command]]:
        """A node has answered which nodes there are."""
        node, self._asking = self._asking, None
        if node is None:
            return None, []
        if self.topology.learn(raw, node.address):
            self.has_come_back = True
        for address, each in list(self._at.items()):
            owes = bool(each.sent) and each.state is not State.CLOSED and monotonic() - each.heard_at <= SILENCE_SECONDS[0]
            if not (owes or self.topology.has(address) or each is node):
                each.close("it has no slots any more")
                self.see(each)
                del self._at[address]
                self.has_come_back = True
        return None, []

    def refused(self, node: Node, error: str) -> None:
        """It does not say which nodes there are."""
        self._asking = None
        if "cluster support disabled" in error or "unknown command" in error.lower():
            self.topology.learn([(0, CLUSTER_SLOTS - 1, (b"", node.address[1]))], node.address)  # it has everything
            self.has_come_back = True
        else:
            self.trouble = error

    def _memory_told(self, raw: Any) -> tuple[None, list[Command]]:
        lines = bytes(raw).decode("utf-8", "replace").splitlines()
        facts = {name: value for name, _, value in (line.partition(":") for line in lines)}
        policy = facts.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and facts.get("maxmemory", "0") != "0":
            what = f"the server at {self._shown} removes entries when its memory is full (maxmemory-policy {policy})"
            warn(f"{what}: set it to noeviction, or what was stored may be gone", stacklevel=2)
        return None, []

    # Descriptors

    def fileno(self) -> int:
        return int(self._selector.fileno())

    def drop(self) -> None:
        """Close all connections; later ones are opened anew."""
        for node in self._at.values():
            node.close()
        self._at.clear()
        self.lost.clear()
        self._asking = None
        self.has_come_back = True

    def close(self) -> None:
        self.drop()
        self._selector.close()

    def leave(self) -> None:
        """In a forked child: nothing of this is used any more, and nothing is said."""
        for node in self._at.values():
            node.leave()
