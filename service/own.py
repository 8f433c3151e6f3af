"""This user's own service: found, or started, by whichever process needs it first."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from time import monotonic, sleep
from typing import IO

from holdall import __version__, settings
from holdall.errors import StorageError
from holdall.framing import path_of
from holdall.private import open_own
from holdall.process import child
from holdall.process.admission import closed_url
from holdall.process.child import READY, refusal_error
from holdall.process.config import ServiceSettings
from holdall.process.listen import is_listening, locked, make_private, why_shared
from holdall.protocol import VERSION
from holdall.worker.directory.opening import DataDirectory

LEAVING_SECONDS = 10.0
"""How long a new service waits for one that is just ending to leave the data directory."""
START_SECONDS_MAX = 60.0
"""How long a service may take to be ready: stores of many entries are looked through, and a busy machine is slow."""
RETURN_CHECK_SECONDS = 0.02
"""How often it is looked whether a service that lives listens again."""


def found(data: Path) -> str | None:
    """Where the service on this data directory listens, if one does: where this process would look for it, or where the holder
    of the directory says; that one's runtime directory follows from another environment, or was there before a clean-up.
    """
    url = settings.service_url(data)
    if not why_shared(url) and (is_listening(url) or is_listening(closed_url(url))):
        return url
    directory = DataDirectory(data)
    holder = directory.holder()
    if holder is None or holder.url in (None, url) or not directory.is_held:
        return None
    other = holder.url or ""
    is_its_own = Path(path_of(other)).parent.name == settings.runtime_directory(data).name and not why_shared(other)
    return other if is_its_own and is_listening(other) else None


def ensure_running(data: Path) -> str:
    """The URL of the service on this data directory, which is started if it does not run.

    Of any number of processes that call this at once, one starts it and the others wait. Raises an Error if it cannot start, at
    once if a service of another protocol version has the directory.
    """
    url = found(data)
    if url is None:
        make_private(settings.runtime_directory(data))
        with _open_starting(data) as starting:
            while url is None and not locked(starting):
                sleep(RETURN_CHECK_SECONDS)  # not in the system: what starts it may be another greenlet of this thread
                url = found(data)
            url = url or _when_its_broker_is_back(data)
            if url is None:
                _start_detached(data)
                url = settings.service_url(data)
    return url


def _open_starting(data: Path) -> IO[str]:
    """The file by which clients start a service one by one: in the data directory, which is the same for all of them."""
    DataDirectory(data).make()
    try:
        return open(data / "starting", "w", opener=open_own)
    except OSError as error:
        raise StorageError(f"the data directory {data} cannot be used: {error.strerror}: {error.filename}") from None


def _when_its_broker_is_back(data: Path) -> str | None:
    """Where the directory's service listens, if one lives: its broker may have been killed, and is back soon."""
    directory = DataDirectory(data)
    until = monotonic() + LEAVING_SECONDS
    while (url := found(data)) is None and monotonic() < until and directory.is_held:
        holder = directory.holder()
        if holder is not None and holder.protocol != VERSION and _is_alive(holder.pid):
            spoken = "an older protocol version" if holder.protocol is None else f"protocol version {holder.protocol}"
            raise StorageError(
                f"the data directory {directory.path} is in use by {holder}, which speaks {spoken}; this is holdall "
                f"{__version__}, which speaks protocol version {VERSION}: end that process (kill {holder.pid}), or wait until "
                "it is not used: one that a client started ends by itself then"
            )
        sleep(RETURN_CHECK_SECONDS)
    return url


def _is_alive(pid: int) -> bool:
    """Whether there is such a process: until a new holder has written its line, the lock names one that has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _start_detached(data: Path) -> None:
    wanted = ServiceSettings(str(data), idle_seconds=settings.IDLE_SECONDS, lock_seconds=LEAVING_SECONDS)
    argv = child.command("holdall.service", wanted, "--detach")
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=child.WORKING_DIRECTORY,
            env=child.environment(),
            check=False,
            timeout=START_SECONDS_MAX,
        )
    except OSError as error:
        raise StorageError(f"cannot start a service: {error.strerror}: {error.filename or argv[0]}") from None
    except subprocess.TimeoutExpired:
        log = data / "service.log"
        raise StorageError(f"the service on {data} was not ready within {START_SECONDS_MAX:.0f} s: see {log}") from None
    line = done.stdout.decode().strip()
    if line != READY:
        raise refusal_error(line)
