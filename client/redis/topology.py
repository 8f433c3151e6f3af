"""Which node has which slot, as far as is known."""

from __future__ import annotations

from typing import Any

from .keyspace import CLUSTER_SLOTS

Address = tuple[str, int]


class Topology:
    """Of the server or cluster at these seeds."""

    def __init__(self, seeds: tuple[Address, ...]) -> None:
        self._seeds = seeds
        self._next = 0
        self._of_slot: list[Address | None] = [None] * CLUSTER_SLOTS
        self._masters: set[Address] = set()
        self._others: set[Address] = set()
        self.is_known = False

    def of(self, slot: int) -> Address | None:
        """The address of the node that has this slot."""
        return self._of_slot[slot]

    def has(self, address: Address) -> bool:
        """Whether a node that has slots is there."""
        return address in self._masters

    def moved(self, slot: int, address: Address) -> None:
        """A node says that this slot is that one's."""
        self._of_slot[slot] = address
        self._masters.add(address)

    def learn(self, raw: Any, asked: Address) -> bool:
        """Take over what a node answers to CLUSTER SLOTS. Returns whether that is other than what was known."""
        of_slot: list[Address | None] = [None] * CLUSTER_SLOTS
        masters: set[Address] = set()
        others: set[Address] = set()
        for first, last, master, *replicas in raw:
            address = _address(master, asked)
            of_slot[first : last + 1] = [address] * (last + 1 - first)
            masters.add(address)
            others.update(_address(each, asked) for each in replicas)
        if not masters:
            return False
        is_other = of_slot != self._of_slot
        self._of_slot, self._masters, self._others = of_slot, masters, others
        self.is_known = True
        return is_other

    def next_seed(self) -> Address:
        """Where to try next: each seed, and each address known, in turn."""
        known = list(dict.fromkeys((*self._seeds, *sorted(self._masters), *sorted(self._others))))
        self._next += 1
        return known[(self._next - 1) % len(known)]


def _address(told: Any, asked: Address) -> Address:
    """The address of a node as CLUSTER SLOTS tells it: without a name it is that of the node that was asked."""
    host = told[0].decode() if told[0] else ""
    return (asked[0] if host in ("", "?") else host), told[1]
