"""A command on its way to a node, what its answer is made into, and how a script carries an opcode out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, Union

import msgspec

from holdall.protocol import Buffer, Reply, Request

Answered: TypeAlias = "tuple[Union[Reply, Command, None], list[Command]]"
"""What an answer is: a reply, or the command to be asked instead; and what else is to be sent now, for nobody's sake."""
Convert: TypeAlias = "Union[Callable[[bytes], Buffer], None]"
"""What is made of the payload of an outcome."""


class Command(msgspec.Struct, eq=False):
    """What to send to the node that has this slot. `source` is that of its script, if it is one."""

    slot: int
    words: list[bytes]
    answer: Callable[[Any], Answered]
    sequence: int = -1
    writes: bool = False
    source: bytes = b""
    asks: bool = False
    """Whether the node is to answer though the slot is another one's still."""
    covered_by: Any = None
    """The WAIT behind it, whose answer is waited for too."""
    reply: Union[Reply, None] = None
    redirected: int = 0


def ignored(_raw: Any) -> tuple[None, list[Command]]:
    """Nobody waits for this answer."""
    return None, []


class Step(msgspec.Struct, frozen=True):
    """How a script carries an opcode out: its name, what it takes of the request, whether its outcome is remembered, whether it
    writes, what is made of its answer's payload, whether it is about a blob.
    """

    name: str
    takes: Callable[[Request], list[bytes]] = lambda _request: []
    once: bool = False
    writes: bool = True
    convert: Convert = None
    of_blob: bool = False
