"""Where streams are: the addresses in a roster, as the system's own sockets take them.

Apart from `holdall.stream` because a client's import need not wait for `socket`, which takes a tenth of it.
"""

from __future__ import annotations

import socket
from socket import AF_INET, AF_INET6, AF_UNIX
from typing import Any


def address_of(url: str) -> tuple[int, Any]:
    """Family and address of the system's own socket at a URL.

    >>> address_of("ipc:///run/worker-0")[1], address_of("tcp://[::1]:4255")[1]
    ('/run/worker-0', ('::1', 4255))
    """
    scheme, _, place = url.partition("://")
    if scheme == "ipc":
        return AF_UNIX, place
    host, _, port = place.rpartition(":")
    return (AF_INET6 if host.startswith("[") else AF_INET), (host.strip("[]"), int(port))


CONNECT_SECONDS = 0.25
"""Who does not answer a call within this time is not there: an event loop may be waiting."""


def connected(url: str) -> socket.socket:
    """A stream to who listens at this URL. Raises OSError if nobody does, or takes no more: a stopped process, for example."""
    family, place = address_of(url)
    stream = socket.socket(family, socket.SOCK_STREAM)
    try:
        stream.settimeout(CONNECT_SECONDS)
        stream.connect(place)
        stream.settimeout(None)
        if family != AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        stream.close()
        raise
    return stream
