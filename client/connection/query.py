"""What an operation asks: requests without their numbers, and with what an error about them would say."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeAlias, TypeVar, Union

import msgspec

from holdall.errors import printable
from holdall.protocol import NO_DICT, Buffer, Reply

R = TypeVar("R")


class Query(msgspec.Struct, eq=False, gc=False):
    """One request: `verb`, `of` and `shown_key` are for people, the rest is for the worker; `key` is an encoded one.

    It is sent again `patience` seconds later than others are. One that `wants_reply` is answered; any other may be lost.
    """

    opcode: int
    hash: int
    verb: str
    of: str
    dict_id: bytes = NO_DICT
    key: bytes = b""
    value: Buffer = b""
    flags: int = 0
    shown_key: object = None
    patience: float = 0.0
    wants_reply: bool = True

    def __str__(self) -> str:
        return f"{self.verb} {self.of}" if self.shown_key is None else f"{self.verb} {shown(self.shown_key)} in {self.of}"


class Queries(msgspec.Struct, eq=False):
    """Several requests, all on their way at once, or `window` of them at most. `take` is given each reply, in their order and
    while others are on their way; without it all of them together are the answer.

    A part of a large value `transfers` it: it has the whole time of a call for itself, and of a loop's tasks only some transfer
    at once. `work` is a part that is written or read on this machine, where no loop waits for it; its result is the answer.
    """

    queries: Iterable[Query] = ()
    window: int = 0
    take: Union[Callable[[Reply], None], None] = None
    transfers: bool = False
    work: Union[Callable[[], Any], None] = None


def shown(key: object) -> str:
    """A key as an error message shows it: whole, if it is short."""
    try:
        text = repr(key)
    except Exception as error:  # a user's own __repr__ may raise anything, and must not hide the error at hand
        text = f"<{type(key).__name__} object, whose repr raises {type(error).__name__}>"
    return printable(text if len(text) <= 100 else f"{text[:97]}...")


Operation: TypeAlias = "Generator[Union[Query, Queries], Any, R]"
"""A call as a generator: it yields what it asks, is sent the reply or replies, returns the result."""
