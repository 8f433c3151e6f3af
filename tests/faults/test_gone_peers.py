"""A peer that goes while much of what it said is still unread ends nobody's process.

ZeroMQ aborts the process (`Assertion failed: !_io_error`) when it is about to ask such a peer for a sign of life: no socket may
both ask and stop reading.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdall.process.child import environment
from holdall.sockets import HEARTBEAT_MILLISECONDS
from tests.faults.hostile import shaken
from tests.fuzz.strangers import handshake, shake_hands
from tests.processes import WAIT_SECONDS

MESSAGES = 20_000
"""More than any socket reads ahead, and than the system keeps for it; from a peer that waits for room no longer than this."""
ROOM_SECONDS = 0.5
SOCKETS = {"front_router": "bind", "back_router": "bind", "client_dealer": "connect", "worker_dealer": "connect"}
PROGRAM = """
import sys
from holdall import sockets

kind, method, url = sys.argv[1:]
context = sockets.new_context()
socket = getattr(sockets, kind)(context)
getattr(socket, method)(url)
print("made", flush=True)
sys.stdin.readline()
if socket.poll(1000):  # without its connection a client's has forgotten what was unread
    assert sockets.receive(socket, 2)[-1] == b"hello"
print("alive", flush=True)
socket.close(0)
context.term()
"""


@contextlib.contextmanager
def peer(method: str, path: Path) -> Iterator[socket.socket]:
    """A bare peer of a ZeroMQ socket that is bound or connected here, after the handshake."""
    if method == "bind":
        with shaken(f"ipc://{path}") as (raw, _heard):
            yield raw
        return
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(WAIT_SECONDS)
        raw, _address = listening.accept()
        with raw:
            assert b"READY" in shake_hands(raw, handshake(kind=b"ROUTER"))
            yield raw


def outcome(folder: Path, kind: str, method: str) -> tuple[int, str]:
    """What a process with such a socket says, and how it ends, when a peer has gone with much unread."""
    path, pipe = folder / kind, subprocess.PIPE
    argv = [sys.executable, "-c", PROGRAM, kind, method, f"ipc://{path}"]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=environment()) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "made\n"
        with peer(method, path) as raw:
            raw.settimeout(ROOM_SECONDS)
            with contextlib.suppress(TimeoutError):  # it reads no more
                for _ in range(MESSAGES):
                    raw.sendall(b"\0\5hello")
        time.sleep(2 * HEARTBEAT_MILLISECONDS / 1000)  # the time in which a peer would be asked
        said = running.communicate("\n", WAIT_SECONDS)[0]
    return running.returncode, said


@pytest.mark.slow
def test_a_peer_that_goes_with_much_unread_ends_no_process(tmp_path: Path) -> None:
    with ThreadPoolExecutor(len(SOCKETS)) as threads:
        ends = {kind: threads.submit(outcome, tmp_path, kind, method) for kind, method in SOCKETS.items()}
    assert {kind: end.result() for kind, end in ends.items()} == dict.fromkeys(SOCKETS, (0, "alive\n"))
