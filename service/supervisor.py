"""The service's own process: starts broker and workers, starts again what dies, ends them all in order.

Children are spawned, never forked: a LevelDB that was open in a forking process loses rows. Each child's standard input
is a pipe that only this process holds open, so that the children end when it does, even by `kill -9`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from holdall import settings as defaults
from holdall.process import child, logs
from holdall.process.config import BrokerSettings, ServiceSettings, WorkerSettings
from holdall.process.listen import make_private
from holdall.worker.directory.locks import Lock
from holdall.worker.directory.opening import DataDirectory

from .keeper import Keeper, first
from .ports import Ports

WATCH_SECONDS = 0.5
"""How often it is looked whether the data directory is still there."""

log = logging.getLogger("holdall.service")


class Service:
    """Broker and workers on one data directory."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._keepers: dict[str, Keeper] = {}

    def stop(self) -> None:
        self._stopping.set()

    async def run(self, announce: Callable[[list[str]], None]) -> None:
        """Until `stop` or idleness; `announce` is called with the service's URLs once it can be used, its own first.

        Raises an Error that says what to do if the service cannot start as things are.
        """
        directory = DataDirectory(self._settings.data)
        lock = directory.lock(self._settings.lock_seconds, defaults.service_url(directory.path))
        layout = directory.prepare(self._settings.workers)
        make_private(defaults.runtime_directory(directory.path))
        ports = Ports(self._settings, directory.path, defaults.runtime_directory(directory.path), layout.id)
        for name, argv in self._children(directory.path, layout.workers, ports).items():
            self._keepers[name] = Keeper(name, argv, self._stopping, self._heard)
        tasks = [asyncio.ensure_future(keeper.run()) for keeper in self._keepers.values()]
        try:
            await self._started()
            tasks.append(asyncio.ensure_future(self._watch(directory, layout.workers, lock)))
            gc.freeze()  # see Child.ready
            if not self._stopping.is_set():
                ports.open()
                announce([defaults.service_url(directory.path), *ports.urls])
            await self._stopping.wait()
        finally:
            self._stopping.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            ports.close()
            if lock.is_in_place():  # else the sockets may be those of another service
                _remove_sockets(defaults.runtime_directory(directory.path))
            lock.release()

    async def _watch(self, directory: DataDirectory, workers: int, lock: Lock) -> None:
        """End when the directory is no longer what this service has locked."""
        parts = [directory.part(index) for index in range(workers)]
        while lock.is_in_place() and all(map(Path.exists, parts)) and not self._stopping.is_set():
            await first(self._stopping.wait(), asyncio.sleep(WATCH_SECONDS))
        if not self._stopping.is_set():
            log.error("%s", directory.why_lost())
            self._stopping.set()

    async def _started(self) -> None:
        started = asyncio.gather(*(keeper.started for keeper in self._keepers.values()))
        await first(asyncio.wait((started,)), self._stopping.wait())
        if started.done():
            started.result()
        else:
            started.cancel()

    def _children(self, data: Path, workers: int, ports: Ports) -> dict[str, list[str]]:
        url, backend = defaults.service_url(data), defaults.socket_url(data, "workers")
        listen = list(dict.fromkeys([url, *ports.urls]))
        broker = BrokerSettings(listen, backend, self._settings.idle_seconds, self._settings.stuck_seconds, ports.keys)
        children = {"broker": child.command("holdall.broker", broker)}
        for index in range(workers):
            lanes = defaults.socket_url(data, f"worker-{index}")
            worker = WorkerSettings(str(data), index, backend, lanes, self._settings.sync, self._settings.adopt)
            children[f"worker {index}"] = child.command("holdall.worker", worker)
        return children

    def _heard(self, line: str) -> None:
        """A child said something: of the broker, that a worker is stuck."""
        keeper = self._keepers.get(line.removeprefix(child.STUCK))
        if line.startswith(child.STUCK) and keeper is not None:
            keeper.replace()


def _remove_sockets(runtime: Path) -> None:
    """Leave nothing there: what was killed has left its sockets. The file by which clients start a service one by one stays."""
    for each in runtime.glob("*.v*"):
        with contextlib.suppress(OSError):
            each.unlink()
    with contextlib.suppress(OSError):  # it is not empty, or other services have theirs beside it
        runtime.rmdir()
        runtime.parent.rmdir()


def run(settings: ServiceSettings, announce: Callable[[list[str]], None], *, supervised: bool) -> None:
    """Run a service as this process; `supervised`: until its standard input ends. Raises what `Service.run` raises."""
    child.be_private()
    logs.begin("service")
    asyncio.run(_run(Service(settings), announce, supervised))


async def _run(service: Service, announce: Callable[[list[str]], None], supervised: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP) if supervised else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, service.stop)
    if supervised:

        def input_ended() -> None:
            loop.remove_reader(sys.stdin)  # it stays readable
            service.stop()

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        loop.add_reader(sys.stdin, input_ended)
    await service.run(announce)


def notify_systemd(state: str) -> None:
    """Send a state such as "READY=1" to the socket that NOTIFY_SOCKET names, if systemd started this: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            out.send(state.encode())
