"""Keeps one child process running: starts it, and starts it again when it dies, with backoff when it dies at once."""

from __future__ import annotations

import asyncio
import logging
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from holdall.errors import Error, StorageError
from holdall.process.child import EXIT_GONE, EXIT_IDLE, READY, WORKING_DIRECTORY, environment, refusal_error

STOP_SECONDS = 10.0
"""How long a child may take to end before it is killed."""
STEADY_SECONDS = 2.0
"""A child that has lived for so long was started well: when it dies it is started again at once."""
BACKOFF_SECONDS = (0.1, 5.0)
"""Shortest and longest wait before a child that dies at once is started again."""
CRASHES, CRASHES_SECONDS = 5, 60.0
"""So many ends within this time are a loop of crashes, which is reported as an error."""

log = logging.getLogger("holdall.service")


class Keeper:
    """One child, until `stopping` is set. What it says after READY goes to `heard`."""

    def __init__(self, name: str, argv: list[str], stopping: asyncio.Event, heard: Callable[[str], None]) -> None:
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once it has been ready for the first time, or has said why it cannot start."""
        self._name = name
        self._argv = argv
        self._stopping = stopping
        self._heard = heard
        self._child: Process | None = None
        self._ready_at: float | None = None
        self._ends: deque[float] = deque(maxlen=CRASHES)

    async def run(self) -> None:
        """Run it, again and again; a child that ends because the service is not used, or its data is gone, stops all."""
        loop = asyncio.get_running_loop()
        delay = BACKOFF_SECONDS[0]
        while not self._stopping.is_set():
            started_at = loop.time()
            status = await self._run_once()
            if status in (EXIT_IDLE, EXIT_GONE):
                self._stopping.set()
            if self._stopping.is_set():
                return
            delay = BACKOFF_SECONDS[0] if loop.time() - started_at > STEADY_SECONDS else min(delay * 2, BACKOFF_SECONDS[1])
            self._report(status, loop.time())
            if delay > BACKOFF_SECONDS[0]:
                await first(self._stopping.wait(), asyncio.sleep(delay))

    def replace(self) -> None:
        """It does not answer: end it now, and another one is started. One that is still starting is left alone."""
        loop = asyncio.get_running_loop()
        if self._child is not None and self._ready_at is not None and loop.time() - self._ready_at > STEADY_SECONDS:
            log.error("%s does not answer; it is killed and started again", self._name)
            self._child.kill()

    def _report(self, status: int | None, now: float) -> None:
        if status is not None:
            log.warning("%s ended with status %d; it is started again", self._name, status)
        self._ends.append(now)
        if len(self._ends) == CRASHES and now - self._ends[0] < CRASHES_SECONDS:
            log.error("%s has ended %d times in %.0f s: see above why", self._name, CRASHES, now - self._ends[0])
            self._ends.clear()

    async def _run_once(self) -> int | None:
        """Returns its exit status; None if there was no process."""
        try:
            child = self._child = await asyncio.create_subprocess_exec(
                *self._argv, stdin=PIPE, stdout=PIPE, cwd=WORKING_DIRECTORY, env=environment()
            )
        except OSError as error:  # no descriptor or no process is left, or the interpreter is away
            self._refused(StorageError(f"cannot start {self._name}: {error.strerror}: {error.filename or self._argv[0]}"))
            return None
        assert child.stdin is not None
        assert child.stdout is not None
        self._ready_at = None
        line = (await child.stdout.readline()).decode().strip()
        if line == READY:
            self._ready_at = asyncio.get_running_loop().time()
            if not self.started.done():
                self.started.set_result(None)
        else:
            self._refused(refusal_error(line))
        await first(self._stopping.wait(), child.wait(), self._listen(child.stdout))
        self._ready_at = None
        child.stdin.close()
        try:
            return await asyncio.wait_for(child.wait(), STOP_SECONDS)
        except TimeoutError:
            log.error("%s does not end; it is killed", self._name)
            child.kill()
            return await child.wait()

    def _refused(self, error: Error) -> None:
        """It cannot start as things are: at first that ends the service, later it is tried again."""
        if not self.started.done():
            self.started.set_exception(error)
        else:
            log.error("%s cannot start: %s", self._name, error)

    async def _listen(self, stdout: asyncio.StreamReader) -> None:
        while line := await stdout.readline():
            self._heard(line.decode().strip())


async def first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Wait for any of them; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
