"""The event loop of a simulated process: asyncio's own tasks and futures, on the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Reader = tuple[Callable[..., object], tuple[Any, ...]]


class Loop:
    """Calls what is due when the clock comes to it. What a callback raises comes out of the clock."""

    def __init__(self, simulation: Simulation) -> None:
        self.is_alive = True
        """Whether its process is: or else nothing is called any more."""
        self._simulation = simulation
        self._readers: dict[int, Reader] = {}
        self._raised: BaseException | None = None

    def notify(self, descriptor: int) -> None:
        """Something can be read here."""
        if descriptor in self._readers:
            self.call_soon(self._read, descriptor)

    def _read(self, descriptor: int) -> None:
        callback, arguments = self._readers.get(descriptor, (lambda: None, ()))
        callback(*arguments)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, cast(Any, self), context)
        self._simulation.clock.call_in(0, self._run, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, cast(Any, self), context)
        self._simulation.clock.call_at(when, self._run, handle)
        return handle

    def time(self) -> float:
        return self._simulation.clock.now

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def create_task(self, coro: Any, **_named: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=cast(Any, self))
        return task

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run this as a task; what it raises comes out of the clock."""
        self.create_task(coroutine).add_done_callback(lambda done: done.result())

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        self._simulation.clock.call_in(self._simulation.faults.lateness(), self._carry_out, future, func, args)
        return future

    def _carry_out(self, future: asyncio.Future[Any], work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.is_alive:
            result = work(*args)
            if not future.done():
                future.set_result(result)

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        self._readers[fd] = callback, args

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def is_closed(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "handle" in context:  # a callback failed; anything else is a task of a process that was killed
            self._raised = context.get("exception")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """`_run` looks for itself."""

    def _run(self, handle: asyncio.Handle) -> None:
        if not self.is_alive or handle.cancelled():
            return
        asyncio._set_running_loop(cast(Any, self))
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
