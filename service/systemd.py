"""Tells systemd how the service is, if systemd started it: sd_notify(3)."""

from __future__ import annotations

import os
import socket


def notify_systemd(state: str) -> None:
    """Send a state such as "READY=1" to the socket that NOTIFY_SOCKET names; nothing happens without one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            out.send(state.encode())
