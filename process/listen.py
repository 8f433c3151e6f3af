"""Unix sockets and the directory they are in: private, and never stolen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from holdall.errors import AuthError, ConnectionError, Error
from holdall.framing import SCHEME, connected, path_of
from holdall.private import OTHERS, fault

BACKLOG = 1_000
"""Clients that may come to a worker in one moment; the system bounds it further."""


LISTENER_LEAVING_SECONDS = 3.0
"""How long a process that listens at an address is waited for: one whose data directory was replaced is about to end."""
LOOK_SECONDS = 0.02


def is_listening(url: str) -> bool:
    """Whether a process listens at this ipc URL: it accepts a connection. A file that is left there proves nothing."""
    try:
        connected(url).close()
    except BlockingIOError:  # so many wait to be let in
        return True
    except OSError:
        return False
    return True


def listen(zmq_socket: Any, url: str) -> None:
    """Bind. A second bind to a live ipc path would succeed and steal it: that is refused with ConnectionError."""
    from zmq import ZMQError  # not at the top: a supervisor binds nothing, and starts sooner without

    with _only_here(url) if url.startswith(SCHEME) else contextlib.nullcontext():
        try:
            zmq_socket.bind(url)
        except ZMQError as error:
            raise ConnectionError(f"cannot listen at {url}: {error.strerror}") from None


def listening_socket(url: str) -> socket.socket:
    """A socket that listens for lanes at this ipc URL. Raises ConnectionError if it cannot, or another process does."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _only_here(url):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path_of(url))  # a dead one's
            listening.bind(path_of(url))
            listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


@contextlib.contextmanager
def _only_here(url: str) -> Generator[None, None, None]:
    """A block in which nobody else listens at this ipc URL, nor begins to; its OSErrors are ConnectionErrors."""
    refuse_shared(url)
    until = time.monotonic() + LISTENER_LEAVING_SECONDS
    try:
        folder = os.open(os.path.dirname(path_of(url)), os.O_RDONLY)
        try:
            while not locked(folder) or is_listening(url):
                if time.monotonic() > until:
                    raise ConnectionError(f"cannot listen at {url}: another process does already")
                time.sleep(LOOK_SECONDS)
            yield
            os.chmod(path_of(url), 0o600)
        finally:
            os.close(folder)
    except OSError as error:
        if isinstance(error, Error):
            raise
        raise ConnectionError(f"cannot listen at {url}: {error.strerror}") from None


def locked(file: IO[str] | int) -> bool:
    """Take the lock of this file, or folder, until it is closed. Returns whether nobody else has it."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def why_shared(url: str) -> str:
    """What lets another user listen at this URL, if it is an ipc one; empty if nothing does."""
    path = Path(path_of(url))
    try:
        return "" if path_of(url) == url else fault(path.parent, OTHERS) or (f"{path} is a link" if path.is_symlink() else "")
    except (OSError, ValueError) as error:
        return str(error)


def refuse_shared(url: str) -> None:
    """Raise AuthError if another user may listen at this ipc URL."""
    if what := why_shared(url):
        advice = "sockets must be in a directory that only you can enter: use another one, or set XDG_RUNTIME_DIR"
        raise AuthError(f"others could listen at {url}: {what}; {advice}")


def make_private(path: Path) -> Path:
    """Make this directory, for this user alone. Raises AuthError if others may enter it, or may replace what leads to it."""
    try:
        while not os.path.lexists(path):
            with contextlib.suppress(FileNotFoundError):  # another service has ended, and removed what was empty
                for each in reversed((path, *path.parents)):
                    if not each.exists():
                        each.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise AuthError(f"the directory {path} for sockets cannot be made: {error.strerror}; set XDG_RUNTIME_DIR") from None
    refuse_shared(f"{SCHEME}{path}/socket")
    return path
