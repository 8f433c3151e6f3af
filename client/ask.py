"""What an operation wants to be asked: a request without its numbers, and with what an error about it would say."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, Union

import msgspec

from holdall.protocol import NO_DICT, Buffer, Reply

if TYPE_CHECKING:
    from typing import TypeAlias

R = TypeVar("R")


class Ask(msgspec.Struct, eq=False, gc=False):
    """One request: `verb`, `of` and `key` are for people, the rest is for the worker.

    It is sent again `patience` seconds later than others are.
    """

    opcode: int
    hash: int
    verb: str
    of: str
    dict_id: bytes = NO_DICT
    data: bytes = b""
    value: Buffer = b""
    flags: int = 0
    key: object = None
    patience: float = 0.0

    def __str__(self) -> str:
        return f"{self.verb} {shown(self.key)} in {self.of}" if self.data and self.key is not None else f"{self.verb} {self.of}"


class Chunks(list[Ask]):
    """Requests about some chunks of one value. Each such list has the whole time of a call: the value goes on."""


class Flow(msgspec.Struct, frozen=True):
    """Requests one after the other, FLOW_MAX of them on their way at once; `take` is told which one has which reply, in order,
    while others are on their way.
    """

    asks: Iterator[Ask]
    take: Callable[[int, Reply], None]


FLOW_MAX = 8


class Work(msgspec.Struct, frozen=True):
    """A part of a large value to be written or read on this machine, where no loop waits for it. It raises nothing."""

    do: Callable[[], Any]


class Tell(msgspec.Struct, frozen=True):
    """A request whose answer nobody waits for: it may be lost."""

    ask: Ask


def shown(key: object) -> str:
    """A key as an error message shows it: whole, if it is short."""
    try:
        text = repr(key)
    except Exception as error:  # a user's own __repr__ may raise anything, and must not hide the error at hand
        text = f"<{type(key).__name__} object, whose repr raises {type(error).__name__}>"
    return text if len(text) <= 100 else f"{text[:97]}..."


Operation: TypeAlias = "Generator[Union[Ask, list[Ask], Flow, Work, Tell], Any, R]"
"""A call as a generator: it yields a request or a list of them, is sent the reply or replies, returns the result."""

Answers = Union[Reply, "list[Reply]"]
