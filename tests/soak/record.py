"""What a client process tells the harness, a line each: a call before it is sent, and how it ended.

A line is shorter than PIPE_BUF, so that it arrives whole or not at all, whenever its writer is killed. Times are those of
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import os
import time
from typing import Union

import msgspec

LINE_BYTES_MAX = 4096
"""PIPE_BUF on Linux: writes of no more are atomic."""
FAILURE_CHARACTERS_MAX = 500
REFUSED = "refused: no room"
"""Why a call ended whose worker says that it stored nothing, because its disk is full. The error has no type of its own."""


class Started(msgspec.Struct, tag=True, array_like=True):
    """A caller is about to make a call, on keys of this generation."""

    caller: int
    generation: int
    kind: str
    keys: list[int]
    values: list[str]
    at: int


class Ended(msgspec.Struct, tag=True, array_like=True):
    """Its call has ended: with this result, or in an error that leaves its outcome unknown, which `why` names."""

    caller: int
    at: int
    result: Union[str, int, bool, None] = None
    why: str = ""


class Broken(msgspec.Struct, tag=True, array_like=True):
    """Its call ended as no call may."""

    caller: int
    at: int
    text: str


Line = Union[Started, Ended, Broken]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def say(line: Line) -> None:
    """Tell the harness, on standard output."""
    data = _encode(line) + b"\n"
    assert len(data) <= LINE_BYTES_MAX
    os.write(1, data)


def parse(line: bytes) -> Line:
    """The line that a client wrote."""
    parsed: Line = _decode(line)
    return parsed


def now() -> int:
    """Nanoseconds, as every process here counts them."""
    return time.monotonic_ns()
