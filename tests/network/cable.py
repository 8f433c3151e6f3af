"""A cable between two hosts: python -m tests.network.cable DEVICE DEVICE SECONDS LOSS.

Two TUN devices, and this process between them: it delays each packet by so many seconds and loses this share of them. A line
"cut" or "plug" on standard input pulls the cable, and plugs it in again. Source: Linux, networking/tuntap.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_BYTES_MAX = 65_536


def device(name: str) -> int:
    """A TUN device of this name, as a descriptor: each read is a packet that its host sends."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def main(first: str, second: str, seconds: float, loss: float) -> None:
    ends = device(first), device(second)
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    on_their_way: list[tuple[float, int, int, bytes]] = []
    chance, count, is_plugged = random.Random(1), 0, True
    print("ready", flush=True)
    while True:
        wait = max(0.0, on_their_way[0][0] - time.monotonic()) if on_their_way else None
        ready, _, _ = select.select([*ends, sys.stdin], [], [], wait)
        if sys.stdin in ready:
            word = sys.stdin.readline().strip()
            if not word:
                return
            is_plugged = word == "plug"
            if not is_plugged:
                on_their_way.clear()
            print(word, flush=True)
        for end in ends:
            if end in ready:
                packet = os.read(end, PACKET_BYTES_MAX)
                if is_plugged and chance.random() >= loss:
                    count += 1
                    heapq.heappush(on_their_way, (time.monotonic() + seconds, count, other[end], packet))
        while on_their_way and on_their_way[0][0] <= time.monotonic():
            _due, _count, end, packet = heapq.heappop(on_their_way)
            try:
                os.write(end, packet)
            except OSError:  # that host has taken its end down
                pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
