"""What CurveZMQ costs: an echo on loopback, by this package's own sockets with keys and without, in turns."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter
from typing import Any

import zmq

from holdall import sockets
from holdall.bench.rounds import in_turns, median_figure, median_ratio
from holdall.connection_file import ConnectionFile

SIZES = (60, 4 * 1024, 64 * 1024, 1024 * 1024)
"""Bytes of a message, there and back."""


def echo(keys: tuple[str, str], ready: Connection) -> None:
    """Answer all that comes at two ports, one with this key and one without, with the same, until the parent ends."""
    plain_context, curve_context = sockets.new_context(), sockets.new_context()
    zap = sockets.zap_socket(curve_context)
    plain, curve = sockets.front_router(plain_context), sockets.gate_router(curve_context, *keys)
    ready.send([each.bind_to_random_port("tcp://127.0.0.1") for each in (plain, curve)])
    poller = zmq.Poller()
    for each in (zap, plain, curve):
        poller.register(each, zmq.POLLIN)
    while True:
        for each, _event in poller.poll():
            frames = each.recv_multipart()
            if each is zap:
                route, empty, version, number = frames[:4]
                frames = [route, empty, version, number, b"200", b"", b"", b""]
            each.send_multipart(frames, copy=len(frames[-1]) <= sockets.COPIED_BYTES_MAX)


@contextmanager
def _dealers() -> Generator[dict[str, Any], None, None]:
    """A client of each port."""
    (public, secret), (own, own_secret) = ([key.decode() for key in zmq.curve_keypair()] for _ in range(2))
    here, there = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=echo, args=((public, secret), there), daemon=True)
    process.start()
    ports = here.recv()
    context = sockets.new_context()
    keys = ConnectionFile(url="", server_key=public, role="client", name="", public_key=own, secret_key=own_secret, layout="")
    dealers = {"without": sockets.client_dealer(context), "CurveZMQ": sockets.client_dealer(context, keys)}
    try:
        for port, dealer in zip(ports, dealers.values(), strict=True):
            dealer.rcvtimeo = 10_000
            dealer.connect(f"tcp://127.0.0.1:{port}")
        yield dealers
    finally:
        for dealer in dealers.values():
            dealer.close()
        context.term()
        process.kill()
        process.join()


def measure(rounds: int, seconds: float, advance: Callable[[], None]) -> list[tuple[int, float, float, float]]:
    """For each size: the p50 of a round trip without keys and with, in microseconds, and the median of the rounds' ratios."""
    rows: list[tuple[int, float, float, float]] = []
    with _dealers() as dealers:
        for size in SIZES:
            message = bytes(size)

            def trip(dealer: Any, message: bytes = message) -> float:
                taken: list[float] = []
                until = perf_counter() + seconds / len(SIZES)
                while perf_counter() < until or not taken:
                    began = perf_counter()
                    while True:  # until it is connected
                        try:
                            dealer.send(message, zmq.DONTWAIT)
                            break
                        except zmq.Again:
                            began = perf_counter()
                    dealer.recv()
                    taken.append((perf_counter() - began) * 1e6)
                return median(taken)

            sides = {name: (lambda dealer=dealer: trip(dealer)) for name, dealer in dealers.items()}
            taken = in_turns(sides, rounds, advance)
            ratio = median_ratio(taken, "CurveZMQ", "without")
            rows.append((size, median_figure(taken, "without"), median_figure(taken, "CurveZMQ"), ratio))
    return rows
