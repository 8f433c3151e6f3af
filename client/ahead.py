"""An operation that is begun before its result is wanted: what it asks first is on its way while its caller does other work."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Generic

from holdall.client.ask import Operation, R
from holdall.errors import Error

if TYPE_CHECKING:
    from types import TracebackType

    from holdall.client.blocking import Begun
    from holdall.client.client import Client

FRESH_SECONDS = 60.0
"""An answer that was asked for longer ago is asked for anew."""


class Ahead(Generic[R]):
    """An operation of this client, which `make` makes; it changes nothing, and may be carried out twice.

    It has a line of the client to itself until its result is taken, or it is left; so of many at once only some are begun.
    """

    def __init__(self, client: Client, make: Callable[[], Operation[R]]) -> None:
        self._client = client
        self._make = make
        self._pid = os.getpid()
        self._begun_at = monotonic()
        self._begun: Begun[R] | None = None
        if client.may_read_ahead():
            try:
                with suppress(Error):  # it is met again when the result is wanted
                    self._begin()
            finally:
                if self._begun is None:
                    client.reads_ahead_no_more()

    def __enter__(self) -> Ahead[R]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        begun = self._taken()
        if begun is not None:
            begun.leave()
            self._give_back(begun)

    def result(self) -> R:
        """Wait for the answers, and go on to the end."""
        begun = self._taken()
        if begun is None:
            return self._client.run(self._make())
        try:
            if monotonic() - self._begun_at < FRESH_SECONDS:
                return begun.end(self._client.timeout)
            begun.leave()
        finally:
            self._give_back(begun)
        return self._client.run(self._make())

    def _begin(self) -> None:
        line = self._client.take_line()
        try:
            self._begun = line.begin(self._make(), self._client.timeout)
        except BaseException:
            self._client.put_back(line)
            raise

    def _give_back(self, begun: Begun[R]) -> None:
        self._client.put_back(begun.line)
        self._client.reads_ahead_no_more()

    def _taken(self) -> Begun[R] | None:
        """What was begun, once; nothing in a forked child, whose parent goes on with it."""
        begun, self._begun = self._begun, None
        return begun if os.getpid() == self._pid else None
