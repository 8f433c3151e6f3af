"""This user's own service: found, or started, by whichever process needs it first; and private ones for a block."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType

from holdall import __version__, settings
from holdall.errors import StorageError
from holdall.process.admission import closed_url
from holdall.process.child import READY, refusal_error
from holdall.process.config import ServiceSettings, Sync
from holdall.process.listen import is_listening, make_private
from holdall.protocol import VERSION
from holdall.worker.directory.locks import Holder
from holdall.worker.directory.opening import DataDirectory

from . import process
from .supervisor import require_plyvel

LEAVING_SECONDS = 10.0
"""How long a new service waits for one that is just ending to leave the data directory."""
LOOK_SECONDS = 0.02
"""How often it is looked whether a service that lives listens again."""


def ensure_running(data: Path) -> str:
    """The URL of the service on this data directory, which is started if it does not run.

    Of any number of processes that call this at once, one starts it and the others wait. Raises an Error if it cannot start, at
    once if a service of another protocol version has the directory.
    """
    url = settings.service_url(data)
    if is_listening(url) or is_listening(closed_url(url)):
        return url
    runtime = make_private(settings.runtime_directory(data))
    with open(runtime / "starting", "w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        _wait_for_its_broker(url, data)
        if not is_listening(url):
            _start_detached(data)
    return url


def _wait_for_its_broker(url: str, data: Path) -> None:
    """While the directory's service lives, but does not listen: its broker was killed, and is back soon."""
    directory = DataDirectory(data)
    until = monotonic() + LEAVING_SECONDS
    while not is_listening(url) and monotonic() < until and _is_held(data):
        holder = directory.holder()
        if holder is not None and holder.protocol != VERSION and _is_alive(holder.pid):
            raise StorageError(_other_version(directory.path, holder))
        sleep(LOOK_SECONDS)


def _is_alive(pid: int) -> bool:
    """Whether there is such a process: until a new holder has written its line, the lock names one that has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _other_version(data: Path, holder: Holder) -> str:
    spoken = "an older protocol version" if holder.protocol is None else f"protocol version {holder.protocol}"
    return (
        f"the data directory {data} is in use by {holder}, which speaks {spoken}; this is holdall {__version__}, which speaks "
        f"protocol version {VERSION}: end that process (kill {holder.pid}), or wait until nobody uses it: one that a client "
        "started ends by itself then"
    )


def _is_held(data: Path) -> bool:
    """Whether a process holds the data directory."""
    try:
        with open(data / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none yet
        pass
    return False


def _start_detached(data: Path) -> None:
    require_plyvel()
    wanted = ServiceSettings(str(data), idle_seconds=settings.IDLE_SECONDS, lock_seconds=LEAVING_SECONDS)
    argv = process.command("holdall.service", wanted, "--detach")
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=process.WORKING_DIRECTORY,
        env=process.environment(),
        check=False,
    )
    line = done.stdout.decode().strip()
    if line != READY:
        raise refusal_error(line)


class LocalService:
    """A private service for as long as a `with` block lasts, and the default one inside it.

    `directory` is its data directory (a temporary one by default, removed at the end), `workers` the number of its
    workers (as the directory was made; a new one: half the CPUs, 2 to 4), `sync` when writes are durable ("always",
    "interval" or "off"). Processes started inside the block use it too: it sets HOLDALL_URL. Raises InvalidError or
    StorageError if it cannot start.

    >>> import holdall
    >>> with holdall.LocalService():
    ...     d = holdall.Dict.from_name("kv", create_if_missing=True)
    ...     d["key"] = "value"
    ...     d["key"]
    'value'
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, workers: int | None = None, sync: Sync = "always"
    ) -> None:
        self._directory = directory
        self._workers = workers
        self._sync: Sync = sync
        self._temporary: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0  # of the process that started it
        self._outer_url: str | None = None
        self.url = ""
        """Where it listens."""

    def start(self) -> None:
        """Start it, as `with` does, but without making it the default one.

        Raises:
            InvalidError: it cannot be opened with so many workers.
            StorageError: the directory cannot be used.

        >>> service = LocalService()
        >>> service.start()
        >>> service.stop()
        """
        require_plyvel()
        self._pid = os.getpid()
        data = Path(os.path.realpath(self._directory or self._make_temporary()))
        wanted = ServiceSettings(str(data), workers=self._workers, sync=self._sync)
        self._process = subprocess.Popen(
            process.command("holdall.service", wanted),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=process.WORKING_DIRECTORY,
            env=process.environment(),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode().strip()
        if line != READY:
            self.stop()
            raise refusal_error(line)
        self.url = settings.service_url(data)

    def stop(self) -> None:
        """End it, as the end of the block does; a temporary directory is removed. In a forked child nothing happens.

        >>> LocalService().stop()  # it does not run: nothing happens
        """
        if self._pid not in (0, os.getpid()):
            return
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process.wait()
            self._process = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def __enter__(self) -> LocalService:
        self.start()
        self._outer_url = os.environ.get("HOLDALL_URL")
        os.environ["HOLDALL_URL"] = self.url
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        from holdall.client.client import close_default

        close_default(self.url)
        if self._outer_url is None:
            os.environ.pop("HOLDALL_URL", None)
        else:
            os.environ["HOLDALL_URL"] = self._outer_url
        self.stop()

    def _make_temporary(self) -> str:
        self._temporary = tempfile.mkdtemp(prefix="holdall-")
        return self._temporary
