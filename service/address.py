"""Unix sockets and the directory they are in: private, and never stolen."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

from holdall.errors import AuthError, ConnectionError


def is_listening(url: str) -> bool:
    """Whether a process listens at this ipc URL. A file that a dead one left is no sign of life: only an answer is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(url[len("ipc://") :])
        except OSError:
            return False
    return True


def listen(zmq_socket: Any, url: str) -> None:
    """Bind. A second bind to a live ipc path would succeed and steal it: that is refused with ConnectionError."""
    from zmq import ZMQError  # not at the top: a supervisor binds nothing, and starts sooner without

    ipc = url.startswith("ipc://")
    if ipc and is_listening(url):
        raise ConnectionError(f"cannot listen at {url}: another process does already")
    try:
        zmq_socket.bind(url)
    except ZMQError as error:
        raise ConnectionError(f"cannot listen at {url}: {error.strerror}") from None
    if ipc:
        os.chmod(url[len("ipc://") :], stat.S_IRUSR | stat.S_IWUSR)


def make_private(path: Path) -> Path:
    """Make this directory, for this user alone. Raises AuthError if others may enter it, or may replace what leads to it."""
    try:
        for each in reversed((path, *path.parents)):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
        trusted = all(_is_ours(each.stat()) for each in (path, *path.parents))
        private = trusted and not path.lstat().st_mode & 0o077
    except OSError as error:
        raise AuthError(f"the directory {path} for sockets cannot be made: {error.strerror}; set XDG_RUNTIME_DIR") from None
    if not private:
        raise AuthError(f"the directory {path} for sockets is not this user's alone: remove it, or set XDG_RUNTIME_DIR")
    return path


def _is_ours(found: os.stat_result) -> bool:
    """Whether nobody but this user and root can replace what this directory holds."""
    replaceable = bool(found.st_mode & 0o022) and not found.st_mode & stat.S_ISVTX
    return stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.getuid()) and not replaceable
