"""What the workers of a service have done, and what they hold: for `holdall status`, and for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall import protocol
from holdall.bodies import decode
from holdall.client.ask import Ask, Operation
from holdall.client.catalog import error_of

if TYPE_CHECKING:
    from holdall.client.client import Client


def statistics(client: Client) -> Operation[list[dict[str, int]]]:
    """The counters of each worker, in the order of the roster; docs/protocol.md says what they count."""
    asks = [Ask(protocol.STATISTICS, each.hash, "count", "what the workers did") for each in client.roster.workers]
    counted: list[dict[str, int]] = []
    for ask, reply in zip(asks, (yield asks), strict=True):
        if reply.status != protocol.OK:
            raise error_of(ask, reply)
        counted.append(decode(dict[str, int], reply.payload))
    return counted
