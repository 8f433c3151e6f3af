"""An awaited call: a future and a coroutine in one, so that to gather a thousand of them takes no thousand tasks.

A task costs an event loop three turns of its queue, and as much time as the call itself. A call needs none while all it does is
ask and wait for the answer, which is when the line goes on with its operation. Whatever else an operation wants (a look-up that
is shared, a transfer in chunks) it is carried on with by a task.

As a coroutine does, it begins when somebody awaits it, or asks to be told of its end, and warns if nobody ever does.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from holdall.client.ask import Ask, Operation, R

if TYPE_CHECKING:
    from holdall.client.awaiting import AwaitingLine
    from holdall.client.channel import Waiting
    from holdall.protocol import Reply


class Call(asyncio.Future[R]):
    """An operation that is awaited on the loop of this line. `timeout` counts from its beginning."""

    __slots__ = ("_awaited", "_begun", "_deadline", "_line", "_operation", "_task", "_timeout", "_waiting")

    def __init__(self, line: AwaitingLine, operation: Operation[R], timeout: float) -> None:
        super().__init__(loop=line.loop)
        self._line = line
        self._operation = operation
        self._timeout = timeout
        self._begun = False
        self._deadline = 0.0
        self._waiting: Waiting | None = None
        self._task: asyncio.Task[R] | None = None
        self._awaited: Generator[Any, None, R] | None = None

    def __await__(self) -> Generator[Any, None, R]:
        if not self._begun:
            self._begin()
        return super().__await__()

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        """As of any future; it begins now."""
        if not self._begun:
            self._begin()
        super().add_done_callback(fn, context=context)

    def cancel(self, msg: Any = None) -> bool:
        """As of any future: nobody waits for the answer any more."""
        self._begun = True
        cancelled = super().cancel(msg)
        if cancelled:
            if self._task is not None:
                self._task.cancel()
            self._end()
        return cancelled

    def send(self, value: None) -> Any:
        """As of any coroutine."""
        if self._awaited is None:
            self._awaited = self.__await__()
        return self._awaited.send(value)

    def throw(self, *args: Any) -> Any:
        """As of any coroutine."""
        if self._awaited is None:
            self._awaited = self.__await__()
        return self._awaited.throw(*args)

    def close(self) -> None:
        """As of any coroutine."""
        self.cancel()

    def answered(self, reply: Reply) -> None:
        """The answer has come."""
        self._waiting = None
        if not self.done():
            self._go_on(reply)

    def failed(self, error: Exception) -> None:
        """No answer comes any more."""
        self._waiting = None
        if not self.done():
            self._end()
            self.set_exception(error)

    def _begin(self) -> None:
        self._begun = True
        self._deadline = monotonic() + self._timeout
        self._go_on(None)

    def _go_on(self, reply: Reply | None) -> None:
        try:
            asked = self._operation.send(reply)
            if type(asked) is Ask:
                self._waiting = self._line.send(asked, self._deadline, self)
                return
        except StopIteration as stop:
            self.set_result(stop.value)
            return
        except Exception as error:
            self.set_exception(error)
            return
        self._task = self._line.loop.create_task(self._line.go_on(self._operation, asked, self._deadline, self._timeout))
        self._task.add_done_callback(self._carried_out)

    def _carried_out(self, task: asyncio.Task[R]) -> None:
        if task.cancelled():
            self.cancel()
        elif self.done():
            task.exception()  # taken note of
        elif (error := task.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(task.result())

    def _end(self) -> None:
        if self._waiting is not None:
            self._line.abandon(self._waiting)
            self._waiting = None
        if self._task is None:
            self._operation.close()

    def __del__(self) -> None:
        if not self._begun:
            self._operation.close()
            name = getattr(self._operation, "__qualname__", "")
            warnings.warn(f"a call was never awaited: {name}", RuntimeWarning, stacklevel=2, source=self)


cast(Any, Coroutine).register(Call)
