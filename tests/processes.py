"""What tests need to know of the processes of a service, and how they wait for them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from unittest import mock

from holdall.connection_file import read
from holdall.errors import StorageError
from holdall.process import child
from holdall.process.child import READY
from holdall.process.config import ServiceSettings
from holdall.roles import Role
from holdall.service.ports import keyring, made
from holdall.worker.directory.locks import read_holder
from holdall.worker.directory.opening import DataDirectory

WAIT_SECONDS = 20.0
"""More than anything here takes; less than a call's own 30 s, so that a call that hangs is seen to hang."""


@contextlib.contextmanager
def service_process(settings: ServiceSettings, *prefix: str, log: IO[str] | None = None) -> Iterator[int]:
    """A service as a child of this process, started through the command `prefix`; its process id."""
    argv, pipe = child.command("holdall.service", settings), subprocess.PIPE
    with subprocess.Popen([*prefix, *argv], stdin=pipe, stdout=pipe, stderr=log, env=child.environment()) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline().decode().strip() == READY
        yield running.pid
        running.stdin.close()
        assert running.wait(WAIT_SECONDS) == 0


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that is stopped for a block, and goes on after it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile, and its parent has seen that
            os.kill(pid, signal.SIGCONT)


RESTARTING_AT_ONCE = """
import sys
if "holdall.service" in sys.orig_argv:
    import holdall.service.keeper
    holdall.service.keeper.BACKOFF_SECONDS = (0.1, 0.1)
"""
"""A `sitecustomize.py` with which a service starts what is killed again at once, however often that happens."""


@contextlib.contextmanager
def restarting_at_once(folder: Path) -> Iterator[None]:
    """Services that are started in this block start what is killed again at once. The folder is for this alone."""
    (folder / "sitecustomize.py").write_text(RESTARTING_AT_ONCE)
    with mock.patch.dict(os.environ, PYTHONPATH=str(folder)):
        yield


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_key(data: Path, role: Role = Role.CLIENT, name: str = "", **more: Any) -> Path:
    """A connection file for a new key of the service on this data directory."""
    name = name or f"key-{os.urandom(4).hex()}"
    file = data / f"{name}.connection"
    made(keyring(data), role, name, DataDirectory(data).layout().id, **more).write(file)
    return file


def keyed(dealer: Any, file: Path) -> Any:
    """A socket of ZeroMQ's own with this key."""
    keys = read(file)
    dealer.curve_serverkey = keys.server_key.encode()
    dealer.curve_publickey, dealer.curve_secretkey = keys.public_key.encode(), keys.secret_key.encode()
    return dealer


def until(holds: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"this did not come about within {WAIT_SECONDS:g} s"
        time.sleep(0.01)


def service_pid(data: Path) -> int:
    """The process that holds the lock of this data directory, or held it last."""
    holder = DataDirectory(data).holder()
    assert holder is not None
    return holder.pid


def worker_pid(data: Path, index: int) -> int | None:
    """The process that holds the lock of this worker, or held it last; None while none has said so."""
    holder = read_holder(DataDirectory(data).part(index) / "lock")
    return None if holder is None else holder.pid


def end_service(data: Path) -> None:
    """End the service on this data directory, if there is one, by the process id in its lock, and wait until it has left."""
    directory = DataDirectory(data)
    holder = directory.holder()
    if holder is None:
        return
    try:
        directory.lock().release()  # nobody holds it: the process id in it is of one that has ended
    except StorageError:
        os.kill(holder.pid, signal.SIGTERM)
        directory.lock(WAIT_SECONDS).release()


def process_ids(data: Path) -> list[str]:
    """The ids of the process of the service on this data directory, of its broker and of its workers."""
    service = service_pid(data)
    return [str(service), *Path(f"/proc/{service}/task/{service}/children").read_text().split()]


def children(pid: int) -> dict[str, int]:
    """The processes of ours that this one started and that are there now: "service", "broker", "worker 0", and so on."""
    found: dict[str, int] = {}
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has just ended
            argv = Path(f"/proc/{each}/cmdline").read_text().split("\0")
            if argv[1:2] == ["-m"] and argv[2].startswith("holdall."):
                index = json.loads(argv[3]).get("index")
                found[argv[2].removeprefix("holdall.") + ("" if index is None else f" {index}")] = int(each)
    return found


def wait_for_lanes(d: Any) -> None:
    """Have the driver of this thread's next blocking call reach every worker by a lane."""

    def has_lanes() -> bool:
        len(d)  # which asks all workers
        links = d.connected()._idle[-1]._session.links
        return bool(links) and all(link.is_direct for link in links)

    until(has_lanes)
