"""The service's own process: starts broker and workers, starts again what dies, ends them all in order.

Children are spawned, never forked: a LevelDB that was open in a forking process loses rows. Each child's standard input
is a pipe that only this process holds open, so that the children end when it does, even by `kill -9`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from holdall import settings as defaults
from holdall.errors import Error, StorageError
from holdall.service import process
from holdall.service.address import make_private
from holdall.service.child import EXIT_IDLE, READY, refusal_error
from holdall.service.settings import BrokerSettings, ServiceSettings, WorkerSettings
from holdall.worker.directory import DataDirectory

STOP_SECONDS = 10.0
"""How long a child may take to end before it is killed."""
STEADY_SECONDS = 2.0
"""A child that lived so long was started well: if it dies it is started again at once."""
BACKOFF_SECONDS = (0.1, 5.0)
"""Shortest and longest wait before a child that dies at once is started again."""

log = logging.getLogger("holdall.service")


class Service:
    """Broker and workers on one data directory."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._starting: dict[str, asyncio.Future[None]] = {}

    def stop(self) -> None:
        """Have the service end."""
        self._stopping.set()

    async def run(self, announce: Callable[[str], None]) -> None:
        """Until `stop` or idleness; `announce` is called with the service's URL once it can be used.

        Raises an Error that says what to do if the service cannot start as things are.
        """
        require_plyvel()
        directory = DataDirectory(self._settings.data)
        lock = directory.lock(self._settings.lock_seconds)
        layout = directory.prepare(self._settings.workers)
        children = self._children(directory.path, layout.workers)
        tasks = [asyncio.ensure_future(self._keep(name, argv)) for name, argv in children.items()]
        try:
            await self._started(tasks)
            if not self._stopping.is_set():
                announce(defaults.service_url(directory.path))
            await self._stopping.wait()
        finally:
            self._stopping.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            lock.release()

    async def _started(self, tasks: list[asyncio.Task[None]]) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        started = asyncio.gather(*self._starting.values())
        await asyncio.wait((started, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if started.done():
            started.result()
        else:
            started.cancel()

    def _children(self, data: Path, workers: int) -> dict[str, list[str]]:
        url = defaults.service_url(data)
        runtime = make_private(defaults.runtime_directory(data))
        backend = f"ipc://{runtime}/workers"
        extra = [defaults.listen_url(self._settings.listen)] if self._settings.listen else []
        listen = [url, *(each for each in extra if each != url)]
        broker = BrokerSettings(listen, backend, self._settings.idle_seconds)
        children = {"broker": process.command("holdall.broker", broker)}
        for index in range(workers):
            worker = WorkerSettings(str(data), index, backend, f"ipc://{runtime}/worker-{index}", self._settings.sync)
            children[f"worker {index}"] = process.command("holdall.worker", worker)
        self._starting = {name: asyncio.get_running_loop().create_future() for name in children}
        return children

    async def _keep(self, name: str, argv: list[str]) -> None:
        """Run this child, again and again, until the service stops."""
        loop = asyncio.get_running_loop()
        delay = BACKOFF_SECONDS[0]
        while not self._stopping.is_set():
            started_at = loop.time()
            status = await self._run_once(name, argv)
            if self._stopping.is_set():
                return
            if status == EXIT_IDLE:
                self.stop()
                return
            delay = BACKOFF_SECONDS[0] if loop.time() - started_at > STEADY_SECONDS else min(delay * 2, BACKOFF_SECONDS[1])
            log.warning("%s ended with status %d; it is started again", name, status)
            if delay > BACKOFF_SECONDS[0]:
                await _first(self._stopping.wait(), asyncio.sleep(delay))

    async def _run_once(self, name: str, argv: list[str]) -> int:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, cwd=process.WORKING_DIRECTORY, env=process.environment()
        )
        assert child.stdin is not None
        assert child.stdout is not None
        line = (await child.stdout.readline()).decode().strip()
        starting = self._starting[name]
        if line == READY:
            if not starting.done():
                starting.set_result(None)
        elif not starting.done():
            starting.set_exception(refusal_error(line))
        else:
            log.error("%s cannot start: %s", name, refusal_error(line))
        await _first(self._stopping.wait(), child.wait())
        child.stdin.close()
        try:
            return await asyncio.wait_for(child.wait(), STOP_SECONDS)
        except asyncio.TimeoutError:
            log.error("%s does not end; it is killed", name)
            child.kill()
            return await child.wait()


async def _first(*coroutines: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def require_plyvel() -> None:
    """Raise StorageError, saying what to install, where LevelDB's binding is missing."""
    if importlib.util.find_spec("plyvel") is None:
        text = "the service keeps its data in LevelDB and needs the package plyvel: pip install 'holdall[server]'"
        if sys.version_info >= (3, 13):
            text += "; here that builds it from source, with LevelDB's headers: apt-get install libleveldb-dev g++"
        raise StorageError(text)


async def run(settings: ServiceSettings, announce: Callable[[str], None], *, supervised: bool) -> None:
    """Run a service as this process; `supervised`: until its standard input ends. Raises what `Service.run` raises."""
    service = Service(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP) if supervised else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, service.stop)
    if supervised:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        loop.add_reader(sys.stdin, service.stop)
    await service.run(announce)


def refused(settings: ServiceSettings, announce: Callable[[str], None], *, supervised: bool) -> Error | None:
    """Run a service as this process to its end; returns why it could not start, if it could not."""
    try:
        asyncio.run(run(settings, announce, supervised=supervised))
    except Error as error:
        return error
    return None
