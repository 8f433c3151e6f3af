"""What it means that a node refuses a command. Source: redis.io, cluster specification; the errors of Redis 7 and Valkey 9."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from holdall import protocol


class Kind(Enum):
    """What to do about a refusal."""

    MOVED = 1
    """The slot is another node's: send it there, from now on."""
    ASK = 2
    """It is moving: ask that node this once."""
    AGAIN = 3
    """The same a little later: the slot is moving, or the node is busy."""
    ELSEWHERE = 4
    """A little later, and look first which node has the slot: this one is not what it was."""
    EVAL = 5
    """It does not know the script: bring the source."""
    FINAL = 6
    """Tell the caller."""
    SHUT = 7
    """This client is not let in here."""
    FULL = 8
    """Nor is any other, for now."""


class Verdict(NamedTuple):
    """`where` is HOST:PORT; `status` and `text` are for the caller."""

    kind: Kind
    slot: int = -1
    where: str = ""
    status: int = 0
    text: str = ""


_KINDS = {
    **dict.fromkeys(("TRYAGAIN", "BUSY", "UNBLOCKED"), Kind.AGAIN),
    **dict.fromkeys(("CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "REDIRECT"), Kind.ELSEWHERE),
    **dict.fromkeys(("NOAUTH", "WRONGPASS", "DENIED"), Kind.SHUT),
    "NOSCRIPT": Kind.EVAL,
}
ACL = "resetkeys ~{0}:* +@read +@write +@scripting +@connection +info +wait +time +asking +cluster|slots"
"""The least that a user must be allowed, for this namespace."""


def verdict(error: str) -> Verdict:
    word, _, rest = error.partition(" ")
    if word in ("MOVED", "ASK"):
        slot, _, where = rest.partition(" ")
        if slot.isdecimal() and int(slot) < 16_384 and where:
            return Verdict(Kind[word], int(slot), where.strip())
        return Verdict(Kind.ELSEWHERE)
    if word in _KINDS:
        return Verdict(_KINDS[word], text=error)
    if "max number of clients" in error:
        return Verdict(Kind.FULL)
    if word in ("OOM", "MISCONF"):
        return Verdict(Kind.FINAL, status=protocol.NO_ROOM, text=f"the server has no room for it: {error}")
    if word == "NOPERM":
        return Verdict(Kind.FINAL, status=protocol.DENIED, text=f"this user may not: {error} (docs/engine.md: what it must)")
    if "unknown command" in error.lower():
        text = f"this server lacks a command that holdall needs, which some hosted ones leave out: {error}"
        return Verdict(Kind.FINAL, status=protocol.INVALID, text=text)
    return Verdict(Kind.FINAL, status=protocol.STORAGE, text=f"the server says: {error}")


def address_of(where: str, default_host: str) -> tuple[str, int]:
    """HOST:PORT of a redirection; without a host it is that of the node that says so. Raises ValueError."""
    host, _, port = where.rpartition(":")
    return host.strip("[]") or default_host, int(port)
