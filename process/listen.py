"""Unix sockets and the directory they are in: private, and never stolen."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

from holdall.errors import AuthError, ConnectionError
from holdall.framing import SCHEME, connected, path_of

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

    _refuse_to_steal(url)
    try:
        zmq_socket.bind(url)
    except ZMQError as error:
        raise ConnectionError(f"cannot listen at {url}: {error.strerror}") from None
    _protect(url)


def listening_socket(url: str) -> socket.socket:
    """A socket that listens for lanes at this ipc URL. Raises ConnectionError if it cannot, or another process does."""
    _refuse_to_steal(url)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path_of(url))  # a dead one's
        listening.bind(path_of(url))
        _protect(url)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConnectionError(f"cannot listen at {url}: {error.strerror}") from None
    listening.setblocking(False)
    return listening


def _refuse_to_steal(url: str) -> None:
    """Wait for a process that is just leaving; raise ConnectionError if it stays."""
    until = time.monotonic() + LISTENER_LEAVING_SECONDS
    while url.startswith(SCHEME) and is_listening(url):
        if time.monotonic() > until:
            raise ConnectionError(f"cannot listen at {url}: another process does already")
        time.sleep(LOOK_SECONDS)


def _protect(url: str) -> None:
    if url.startswith(SCHEME):
        os.chmod(path_of(url), stat.S_IRUSR | stat.S_IWUSR)


def make_private(path: Path) -> Path:
    """Make this directory, for this user alone. Raises AuthError if others may enter it, or may replace what leads to it."""
    try:
        for each in reversed((path, *path.parents)):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
        private = is_private(path)
    except OSError as error:
        raise AuthError(f"the directory {path} for sockets cannot be made: {error.strerror}; set XDG_RUNTIME_DIR") from None
    if not private:
        raise AuthError(f"the directory {path} for sockets is not this user's alone: remove it, or set XDG_RUNTIME_DIR")
    return path


def is_private(path: Path) -> bool:
    """Whether only this user can enter this directory, and nobody else can replace what leads to it. Raises OSError."""
    return all(_is_ours(each.stat()) for each in (path, *path.parents)) and not path.lstat().st_mode & 0o077


def _is_ours(found: os.stat_result) -> bool:
    """Whether only this user and root can replace what this directory holds."""
    replaceable = bool(found.st_mode & 0o022) and not found.st_mode & stat.S_ISVTX
    return stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.getuid()) and not replaceable
