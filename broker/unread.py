"""How much clients elsewhere have sent that nobody has read yet, in bytes.

ZeroMQ bounds messages, and one may have frames without end. So a part of the memory is for all that is unread, and while it is
more, those of whom most is are cut off. How much has come by a connection the system tells, where it is Linux.
"""

from __future__ import annotations

import os
import resource
import socket
import struct

SHARE = 4
"""A fourth of this machine's memory, or of what this process may have, is for what is unread."""
SIGNS_PER_SECOND = 64
"""Bytes that a client may send beside its messages: signs of life."""
_CURVE_BYTES = 33
_LONG_BYTES = 256
_RECEIVED = struct.Struct("=128xQ")
"""Where tcpi_bytes_received is in TCP_INFO. Source: linux/tcp.h."""


def bytes_max() -> int:
    of_machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    return (of_machine if allowed == resource.RLIM_INFINITY else min(of_machine, allowed)) // SHARE


def sent_bytes(size: int) -> int:
    """As how many bytes a frame of this size has come. Source: rfc.zeromq.org/spec/26 and 23."""
    return size + _CURVE_BYTES + (2 if size + _CURVE_BYTES < _LONG_BYTES else 9)


def received_bytes(connection: socket.socket) -> int:
    """How much has come by it. Raises OSError."""
    return int(_RECEIVED.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.size))[0])


def resident_bytes() -> int:
    """How much memory this process has; 0 where the system is not Linux."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
