"""Where lanes are: the Unix sockets that a roster names.

Apart from `holdall.framing` because a client's import need not wait for `socket`, which takes a tenth of it.
"""

from __future__ import annotations

import socket

SCHEME = "ipc://"
CONNECT_SECONDS = 0.25
"""A process that does not answer a call within this time is not there: an event loop may be waiting."""


def path_of(url: str) -> str:
    """The path of the Unix socket at an ipc URL.

    >>> path_of("ipc:///run/worker-0")
    '/run/worker-0'
    """
    return url.removeprefix(SCHEME)


def connected(url: str) -> socket.socket:
    """A stream to the process that listens at this ipc URL. Raises OSError if none does, or it takes no more: a stopped one."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.settimeout(CONNECT_SECONDS)
        stream.connect(path_of(url))
        stream.settimeout(None)
    except BaseException:
        stream.close()
        raise
    return stream
